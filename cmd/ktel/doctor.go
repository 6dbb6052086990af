package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/doctor"
)

const doctorLong = `doctor finds out why telemetry does not arrive, and prints how to fix it.

Without --function, doctor checks the stream with this shell's credentials and
KINESIS_TELEMETRY_* variables. With --function, it checks a deployed function:
its layer, settings, role and network, and the stream that it writes to.

doctor changes nothing. Its only write is a dry run of PutRecords. An emulator
of Kinesis without dry runs stores that record; doctor then reports it.

`

const doctorStatuses = `Exit status:
    0  no problems found; there may be warnings
    1  problems found
    2  the command line is wrong
    4  doctor could not check
  130  interrupted`

type doctorFlags struct {
	doctor.Options
	json bool
}

func (a *app) doctorCommand() *cobra.Command {
	f := &doctorFlags{}
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Find out why telemetry does not arrive",
		Long:  doctorLong + doctorStatuses,
		Example: `  KINESIS_TELEMETRY_STREAM=my-stream ktel doctor
  ktel doctor --function checkout --region eu-west-1
  ktel doctor --function checkout --qualifier live --json`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments("ktel doctor --function NAME"),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Function, "function", "", "`NAME` or ARN of a deployed function to check")
	flags.StringVar(&f.Qualifier, "qualifier", "", "`VERSION` or alias of that function")
	flags.StringVar(&f.Layer, "layer", doctor.LayerName, "part of the `NAME` of the layer that contains the extension")
	flags.StringVar(&f.Region, "region", "", "AWS `REGION` (default: the one that AWS's tools use)")
	flags.BoolVar(&f.json, "json", false, "print the findings as JSON")
	return cmd
}

// noArguments refuses the arguments of a command that takes none. hint is the command that was probably meant.
func noArguments(hint string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return usageError(fmt.Sprintf("%s takes no arguments, got %q", cmd.Name(), args[0]), hint)
	}
}

func (a *app) doctor(ctx context.Context, f *doctorFlags) error {
	if f.Qualifier != "" && f.Function == "" {
		return usageError("--qualifier needs --function")
	}
	report, err := doctor.Examine(ctx, f.Options)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return cannot(err, "check AWS_PROFILE, AWS_CONFIG_FILE and AWS_CA_BUNDLE")
	}
	if f.json {
		err = writeReportJSON(a.stdout, report)
	} else {
		columns, _ := terminalWidth(a.stdout)
		err = writeReport(a.stdout, a.paletteFor(a.stdout), report, columns)
	}
	switch {
	case err != nil:
		return cannot(fmt.Errorf("write the findings: %w", err))
	case report.Count(doctor.Problem) > 0:
		return &failure{status: statusIncomplete}
	case report.Err != nil:
		return cannot(report.Err)
	}
	return nil
}

// writeReportJSON writes the findings and their counts for programs.
func writeReportJSON(w io.Writer, r *doctor.Report) error {
	return writeJSON(w, struct {
		Problems   int `json:"problems"`
		Warnings   int `json:"warnings"`
		NotChecked int `json:"notChecked"`
		*doctor.Report
	}{r.Count(doctor.Problem), r.Count(doctor.Warning), r.Count(doctor.NotChecked), r})
}

const (
	checkColumns  = 13
	statusColumns = 13
)

// writeReport writes the findings for a person. A command to type stays on one line.
func writeReport(w io.Writer, colors palette, r *doctor.Report, columns int) error {
	paint := map[doctor.Status]func(...any) string{
		doctor.OK: colors.good, doctor.Warning: colors.warn, doctor.Problem: colors.bad, doctor.NotChecked: colors.dim,
	}
	const indent = 2 + checkColumns + statusColumns
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString("  " + colors.dim(pad(f.Check, checkColumns)) + paint[f.Status](pad(string(f.Status), statusColumns)) +
			fold(printable(f.Seen), columns, indent, indent) + "\n")
		if f.Fix != "" {
			b.WriteString(strings.Repeat(" ", indent) + "→ " + printable(f.Fix) + "\n")
		}
	}
	b.WriteString("\n  " + verdictOf(colors, r) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func verdictOf(colors palette, r *doctor.Report) string {
	var parts []string
	if n := r.Count(doctor.Problem); n > 0 {
		parts = append(parts, colors.bad(plural(n, "problem")))
	}
	if n := r.Count(doctor.Warning); n > 0 {
		parts = append(parts, colors.warn(plural(n, "warning")))
	}
	if n := r.Count(doctor.NotChecked); n > 0 {
		parts = append(parts, fmt.Sprintf("%d not checked", n))
	}
	if len(parts) == 0 {
		return colors.good("No problems found.")
	}
	return strings.Join(parts, ", ") + "."
}
