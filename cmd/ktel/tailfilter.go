package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/record"
)

// filterFlags choose events.
type filterFlags struct {
	functions []string
	request   string
	level     string
	types     []string
	grep      string
}

func (f *filterFlags) any() bool {
	return len(f.functions) > 0 || f.request != "" || f.level != "" || len(f.types) > 0 || f.grep != ""
}

// levels are the levels of logs, from the least on, with their other names.
var levels = [][]string{
	{"trace"}, {"debug"}, {"info", "information", "notice"}, {"warn", "warning"}, {"error", "err"}, {"fatal", "critical", "panic"},
}

// rank is a level's place; -1 of none.
func rank(level string) int {
	return slices.IndexFunc(levels, func(names []string) bool { return slices.Contains(names, strings.ToLower(level)) })
}

func levelNames() []string {
	var names []string
	for _, level := range levels {
		names = append(names, level[0])
	}
	return names
}

// typeForeign chooses what others have written.
const typeForeign = "foreign"

// typeNames are the types that --type knows; any other one can be given with its family.
var typeNames = []string{
	"function", kindExtension, "platform", "start", "runtimeDone", "report", "initStart", "initRuntimeDone", "initReport", "restoreStart",
	"restoreRuntimeDone", "restoreReport", "telemetrySubscription", "logsDropped", "kinesis-telemetry", "stats", "dropped", typeForeign,
}

func (f *filterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.functions, "function", nil, "show function `NAME` alone; it may have *, and be given several times")
	flags.StringVar(&f.request, "request", "", "show the request whose `ID` begins so")
	flags.Var(choice{&f.level, levelNames()}, "level", "show what has a level, from this one on: "+list(levelNames()))
	flags.StringSliceVar(&f.types, "type", nil,
		"show events of a `TYPE`: function, extension, platform, report, platform.report, foreign, ...; several with commas")
	flags.StringVar(&f.grep, "grep", "", "show events whose message, or JSON, matches a regular `EXPRESSION`")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(typeNames, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

// filter is filterFlags, checked.
type filter struct {
	filterFlags
	level   int // -1: any
	pattern *regexp.Regexp
}

func (f *filterFlags) filter() (*filter, error) {
	checked := &filter{filterFlags: *f, level: rank(f.level)}
	for _, pattern := range f.functions {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, usageError(fmt.Sprintf("--function %q is no pattern: a [ is not closed", pattern), "functions have no [ in their names")
		}
	}
	for _, kind := range f.types {
		if !strings.Contains(kind, ".") && !slices.Contains(typeNames, kind) {
			return nil, usageError(fmt.Sprintf("--type %q is no type of events", kind),
				"it takes "+list(typeNames)+", or a whole type such as platform.report")
		}
	}
	if f.grep == "" {
		return checked, nil
	}
	var err error
	if checked.pattern, err = regexp.Compile(f.grep); err != nil {
		reason := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return nil, usageError(fmt.Sprintf("--grep %q is no regular expression: %s", f.grep, reason),
			`a character that has a meaning is matched with a \ before it; the syntax is RE2's`)
	}
	return checked, nil
}

// matchesSource tells whether an event is of a function and a request that are chosen.
func (f *filter) matchesSource(line *record.Line) bool {
	if len(f.functions) > 0 && !slices.ContainsFunc(f.functions, func(pattern string) bool {
		matches, _ := path.Match(pattern, line.Source.Function)
		return matches
	}) {
		return false
	}
	return strings.HasPrefix(line.RequestID, f.request)
}

// matches tells whether an event is chosen.
func (f *filter) matches(line *record.Line, m *message) bool {
	if !f.matchesSource(line) {
		return false
	}
	if f.level >= 0 && severity(m) < f.level {
		return false
	}
	if len(f.types) > 0 && !slices.ContainsFunc(f.types, func(kind string) bool { return isType(line.Type, kind) }) {
		return false
	}
	return f.pattern == nil || f.pattern.MatchString(strings.TrimSpace(m.level+" "+m.text)) || f.pattern.Match(line.Raw)
}

// matchesForeign tells whether a record of others is chosen.
func (f *filter) matchesForeign(data []byte) bool {
	if len(f.functions) > 0 || f.request != "" || f.level >= 0 || len(f.types) > 0 && !slices.Contains(f.types, typeForeign) {
		return false
	}
	return f.pattern == nil || f.pattern.Match(data)
}

// isType tells whether a type is the one that was given: whole, its family, or its name.
func isType(kind, given string) bool {
	family, name, _ := strings.Cut(kind, ".")
	return kind == given || family == given || name == given
}

var levelWord = regexp.MustCompile(`\b(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\b`)

// severity is the rank of a message's level: of a line of text that of the first level in it, and of what failed that of an error.
func severity(m *message) int {
	switch {
	case m.alarming:
		return rank("error")
	case m.level != "":
		return rank(m.level)
	}
	return rank(levelWord.FindString(m.text[:min(len(m.text), 120)]))
}
