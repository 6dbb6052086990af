// Ktel runs Lambda functions with extensions on this machine, reads their telemetry back from a Kinesis data stream and
// reports whether all of it arrived.
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
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	// If the reader of the output goes away (ktel … | head), SIGPIPE must not kill this process before it has ended its
	// children. With a handler in place the write fails with EPIPE instead, and ktel ends in order.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes the command line and returns the exit status. When ctx ends, every process that it started ends, too.
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

// app has what all commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	color          string
}

const rootLong = `ktel runs a Lambda function on this machine with the telemetry extension and
with other extensions. It reads the telemetry back from a Kinesis data stream,
and reports whether every event arrived.`

const rootStatuses = `Exit status:
    0  every event arrived, once and unaltered
    1  events were lost, duplicated or altered,
       or the environment did not start,
       or the extension never subscribed to events
    2  the command line, or a file that it names, is wrong
    3  invocations failed; all emitted events arrived
    4  ktel failed
  130  interrupted`

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "ktel COMMAND [flags]",
		Short:         "Run Lambda functions with extensions, and audit their telemetry",
		Long:          rootLong + "\n\n" + rootStatuses,
		Version:       version(),
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true, // explain reports them
		SilenceUsage:  true, // a mistake gets a hint, not the usage

		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2, // edit distance of a suggested command
		Example: `  ktel demo
  ktel run -n 20 --event '{"id": 7}' -- ./bootstrap`,
	}
	columns := a.helpColumns()
	root.SetUsageTemplate(usageTemplate)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		help := cmp.Or(cmd.Long, cmd.Short) + "\n\n" + foldFlags(cmd.UsageString(), columns)
		_, _ = io.WriteString(cmd.OutOrStdout(), help) // a failure cannot be reported anywhere
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

// helpColumns returns the width of help: that of the terminal, at most 80 columns.
func (a *app) helpColumns() int {
	if columns, terminal := terminalWidth(a.stdout); terminal {
		return min(columns, 80)
	}
	return 80
}

// prepareHelp wraps the texts of a command and its subcommands, and lets shells complete the values of their flags.
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

// flagLine matches a flag in a usage text and its description.
var flagLine = regexp.MustCompile(`(?m)^( +(?:-\w, )?--\S+(?: \S+)? {2,})(\S.*)$`)

// foldFlags wraps the descriptions of flags.
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

// reflow wraps the paragraphs of a text again. Indented lines stay unchanged.
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

// noSuchCommand refuses an unknown command, and suggests the one that was probably meant.
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

'{{.CommandPath}} COMMAND --help' shows the help of a command.{{end}}
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

// choice is a flag whose value is one of a few words.
type choice struct {
	value   *string
	allowed []string
}

func (c choice) String() string {
	if c.value == nil { // pflag calls it on a zero value
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
	return fmt.Errorf("it must be %s", list(c.allowed))
}

// Type returns the placeholder of the value in the usage text.
func (c choice) Type() string { return "WORD" }

// flagError rewords an error of pflag.
func flagError(err error, hint string) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageError(err.Error(), hint)
	}
	flag := invalid.GetFlag()
	reason := errors.Unwrap(invalid).Error()
	switch flag.Value.Type() {
	case "int", "uint64":
		reason = "it must be a whole number"
	case "duration":
		reason = "it must be a duration, such as 500ms or 2s"
	case "bool":
		reason = "it must be true or false"
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

// progress reports on standard error what ktel is doing.
func (a *app) progress(format string, args ...any) {
	_, _ = fmt.Fprintln(a.stderr, a.paletteFor(a.stderr).dim(printable(fmt.Sprintf("ktel: "+format, args...))))
}

// workspace creates a directory for the programs that a trial builds and the files that its processes write.
// The caller must call remove when the processes have ended.
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
