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

// filterFlags are the flags that filter events.
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

// levels are the levels of logs in ascending order, each with its other names.
var levels = [][]string{
	{"trace"}, {"debug"}, {"info", "information", "notice"}, {"warn", "warning"}, {"error", "err"}, {"fatal", "critical", "panic"},
}

// rank returns the index of a level, or -1 if it is unknown.
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

// typeForeign selects records of other writers.
const typeForeign = "foreign"

// typeNames are the types that --type accepts without their family. Any other type needs its family.
var typeNames = []string{
	"function", kindExtension, "platform", "start", "runtimeDone", "report", "initStart", "initRuntimeDone", "initReport", "restoreStart",
	"restoreRuntimeDone", "restoreReport", "telemetrySubscription", "logsDropped", "kinesis-telemetry", "stats", "dropped", typeForeign,
}

func (f *filterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.functions, "function", nil, "show only function `NAME`, which may contain *; repeatable")
	flags.StringVar(&f.request, "request", "", "show only the request with this `ID`, or prefix of one")
	flags.Var(choice{&f.level, levelNames()}, "level", "show only events of this level or above: "+list(levelNames()))
	flags.StringSliceVar(&f.types, "type", nil,
		"show only events of this `TYPE`, or of a list with commas: function, extension, platform, report, platform.report, foreign")
	flags.StringVar(&f.grep, "grep", "", "show only events whose message or JSON matches the regular `EXPRESSION`")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(typeNames, cobra.ShellCompDirectiveNoFileComp))
}

// filter is a checked filterFlags.
type filter struct {
	filterFlags
	level   int // -1: any
	pattern *regexp.Regexp
}

func (f *filterFlags) filter() (*filter, error) {
	checked := &filter{filterFlags: *f, level: rank(f.level)}
	for _, pattern := range f.functions {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, usageError(fmt.Sprintf("--function %q is not a pattern: [ is not closed", pattern),
				"names of functions contain no [")
		}
	}
	for _, kind := range f.types {
		if !strings.Contains(kind, ".") && !slices.Contains(typeNames, kind) {
			return nil, usageError(fmt.Sprintf("--type %q is not a type of events", kind),
				"it must be "+list(typeNames)+", or a full type such as platform.report")
		}
	}
	if f.grep == "" {
		return checked, nil
	}
	var err error
	if checked.pattern, err = regexp.Compile(f.grep); err != nil {
		reason := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return nil, usageError(fmt.Sprintf("--grep %q is not a regular expression: %s", f.grep, reason),
			`put a \ before a special character to match it; the syntax is RE2`)
	}
	return checked, nil
}

// matchesSource reports whether an event is from a selected function and request.
func (f *filter) matchesSource(line *record.Line) bool {
	if len(f.functions) > 0 && !slices.ContainsFunc(f.functions, func(pattern string) bool {
		matches, _ := path.Match(pattern, line.Source.Function)
		return matches
	}) {
		return false
	}
	return strings.HasPrefix(line.RequestID, f.request)
}

// matches reports whether an event passes the filter.
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

// matchesForeign reports whether a record of another writer passes the filter.
func (f *filter) matchesForeign(data []byte) bool {
	if len(f.functions) > 0 || f.request != "" || f.level >= 0 || len(f.types) > 0 && !slices.Contains(f.types, typeForeign) {
		return false
	}
	return f.pattern == nil || f.pattern.Match(data)
}

// isType reports whether a type matches the given one: the full type, its family or its name.
func isType(kind, given string) bool {
	family, name, _ := strings.Cut(kind, ".")
	return kind == given || family == given || name == given
}

var levelWord = regexp.MustCompile(`\b(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\b`)

// severity returns the rank of a message's level. A line of text has the first level in it. A failure counts as an error.
func severity(m *message) int {
	switch {
	case m.alarming:
		return rank("error")
	case m.level != "":
		return rank(m.level)
	}
	return rank(levelWord.FindString(m.text[:min(len(m.text), 120)]))
}
