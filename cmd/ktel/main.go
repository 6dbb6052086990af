// Ktel runs Lambda functions with extensions on this machine, reads their telemetry back from a Kinesis data stream and
// says whether all of it arrived.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends the process at once
	// A reader that goes away (ktel … | head) must not kill this process while it has others to end: with a handler in
	// place the write fails with EPIPE instead, and ktel ends in order.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole command: it returns the exit status. When ctx ends, so does every process that it started.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := &app{stdin: stdin, stdout: stdout, stderr: stderr, color: colorAuto}
	root := app.command() //nolint:contextcheck // the commands take it from ExecuteContext
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		app.explain(err)
	}
	return statusOf(err)
}

// app is what all verbs share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	color          string
}

const rootLong = `ktel runs a Lambda function on this machine, with the telemetry extension and
any other ones beside it, reads the telemetry back from a Kinesis data stream,
and says whether every event arrived.`

const rootStatuses = `Exit status:
    0  every event arrived, once and unaltered
    1  events were lost, duplicated or altered, or:
       the environment did not start,
       or the extension never subscribed to events
    2  the command line, or a file that it names, is wrong
    3  invocations failed; what was emitted arrived
    4  ktel could not do its work
  130  interrupted`

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "ktel COMMAND [flags]",
		Short:         "Run Lambda functions with extensions, and audit their telemetry",
		Long:          rootLong + "\n\n" + rootStatuses,
		Version:       version(),
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true, // explain tells them
		SilenceUsage:  true, // a mistake gets a hint, not a page

		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2, // letters between what was typed and what may have been meant
		Example: `  ktel demo
  ktel run -n 20 --event '{"id": 7}' -- ./bootstrap`,
	}
	columns := a.helpColumns()
	root.SetUsageTemplate(usageTemplate)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		help := cmp.Or(cmd.Long, cmd.Short) + "\n\n" + foldFlags(cmd.UsageString(), columns)
		_, _ = io.WriteString(cmd.OutOrStdout(), help) // there is nobody left to report a failure to
	})
	root.SetVersionTemplate("ktel {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flagError(err, fmt.Sprintf("'%s --help' lists the flags", cmd.CommandPath()))
	})
	root.Flags().Bool("version", false, "print the version") // cobra's own would take -v
	root.PersistentFlags().Var(choice{&a.color, []string{colorAuto, colorAlways, colorNever}}, "color",
		"auto (on a terminal, without NO_COLOR), always or never")
	root.AddCommand(a.demoCommand(), a.runCommand(), a.kinesisCommand(), a.tailCommand(), a.decodeCommand(), a.auditCommand(),
		a.doctorCommand(), a.publishCommand(), a.versionCommand())
	root.InitDefaultCompletionCmd()
	prepareHelp(root, columns)
	return root
}

// helpColumns is how wide help is, which has 80 columns at most.
func (a *app) helpColumns() int {
	if columns, terminal := terminalWidth(a.stdout); terminal {
		return min(columns, 80)
	}
	return 80
}

// prepareHelp breaks the texts of a command and of those below it, and lets a shell complete what their flags take.
func prepareHelp(cmd *cobra.Command, columns int) {
	cmd.Long = reflow(cmd.Long, columns)
	complete := func(flag *pflag.Flag) {
		words, ok := flag.Value.(choice)
		if _, known := cmd.GetFlagCompletionFunc(flag.Name); ok && !known {
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, cobra.FixedCompletions(words.allowed, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	cmd.Flags().VisitAll(complete)
	cmd.PersistentFlags().VisitAll(complete)
	for _, sub := range cmd.Commands() {
		prepareHelp(sub, columns)
	}
}

// flagLine is a flag of a usage text, and what it is for.
var flagLine = regexp.MustCompile(`(?m)^( +(?:-\w, )?--\S+(?: \S+)? {2,})(\S.*)$`)

// foldFlags breaks what flags are for into lines under each other.
func foldFlags(usage string, columns int) string {
	return flagLine.ReplaceAllStringFunc(usage, func(line string) string {
		part := flagLine.FindStringSubmatch(line)
		indent := len(part[1])
		if columns-indent < minMessageColumns {
			indent = 10
		}
		return part[1] + fold(part[2], columns, len(part[1]), indent)
	})
}

// reflow breaks the paragraphs of a text anew. Lines that are indented stay as they are.
func reflow(text string, columns int) string {
	var b strings.Builder
	paragraph := ""
	end := func() {
		if paragraph != "" {
			b.WriteString(ansi.Wrap(paragraph, columns, " ") + "\n")
		}
		paragraph = ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "--") {
			end()
			b.WriteString(line + "\n")
			continue
		}
		paragraph = strings.TrimSpace(paragraph + " " + line)
		if strings.HasSuffix(line, ":") {
			end()
		}
	}
	end()
	return strings.TrimRight(b.String(), "\n")
}

// noSuchCommand refuses what follows ktel and is no verb; with it, the verb that was probably meant.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "'ktel --help' lists the commands"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean 'ktel %s'?", near[0])
	}
	return usageError(fmt.Sprintf("there is no command %q", args[0]), hint)
}

const usageTemplate = `Usage:
  {{.UseLine}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

'{{.CommandPath}} COMMAND --help' tells more about a command.{{end}}
`

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments("ktel version"),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.stdout, "ktel %s\n", version())
			return err
		},
	}
}

// release is the version of a released ktel. The linker sets it.
var release string

// version returns the version of the release, or the module's version as the build recorded it.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// choice is a flag that takes one of a few words.
type choice struct {
	value   *string
	allowed []string
}

func (c choice) String() string {
	if c.value == nil { // pflag asks a zero value
		return ""
	}
	return *c.value
}

func (c choice) Set(s string) error {
	for _, word := range c.allowed {
		if strings.EqualFold(s, word) {
			*c.value = word
			return nil
		}
	}
	return fmt.Errorf("it takes %s", list(c.allowed))
}

// Type stands in the usage text for the value.
func (c choice) Type() string { return "WORD" }

// flagError says what is wrong with a flag in the words of this command.
func flagError(err error, hint string) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageError(err.Error(), hint)
	}
	flag := invalid.GetFlag()
	reason := errors.Unwrap(invalid).Error()
	switch flag.Value.Type() {
	case "int", "uint64":
		reason = "it takes a whole number"
	case "duration":
		reason = "it takes a duration, such as 500ms or 2s"
	case "bool":
		reason = "it is true or false"
	}
	return usageError(fmt.Sprintf("--%s %q: %s", flag.Name, invalid.GetValue(), reason), hint)
}

// list joins words as a sentence does: a, b or c.
func list(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// progress tells on standard error what takes a while.
func (a *app) progress(format string, args ...any) {
	_, _ = fmt.Fprintln(a.stderr, a.paletteFor(a.stderr).dim(printable(fmt.Sprintf("ktel: "+format, args...))))
}

// workspace makes a directory for what a trial builds and what its processes write. remove it when all have ended.
func (a *app) workspace() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp("", "ktel-")
	if err != nil {
		return "", nil, cannot(err)
	}
	return dir, func() {
		if err := os.RemoveAll(dir); err != nil {
			_, _ = fmt.Fprintf(a.stderr, "ktel: warning: %s\n", printable(err.Error()))
		}
	}, nil
}
