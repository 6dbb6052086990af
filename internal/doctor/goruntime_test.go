package doctor

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// isMemoryLimit and checkGo agree with Go's runtime: the test starts this program with each value.
func TestGoStarts(t *testing.T) {
	starts := func(variable string) bool {
		command := exec.Command(os.Args[0], "-test.run=^$")
		command.Env = append(os.Environ(), variable)
		return command.Run() == nil
	}
	for _, value := range []string{
		"", "off", "0", "100", "100B", "100KiB", "100MiB", "1GiB", "1TiB", "+5MiB", "9223372036854775807", "8388607TiB",
		"100MB", "100M", "100mib", "100 MiB", " 100MiB", "100MiB ", "MiB", "B", "-1", "-1MiB", "1.5GiB", "OFF", "100KB", "100PiB",
		"9223372036854775808", "8388608TiB", "8589934592GiB", "8589934591GiB", "9007199254740992KiB", "8796093022208MiB", "9223372036854775807B",
	} {
		if got, want := isMemoryLimit(value), starts("GOMEMLIMIT="+value); got != want {
			t.Errorf("GOMEMLIMIT=%q: %t, Go says %t", value, got, want)
		}
	}
	for _, value := range []string{
		"", "x", "madvdontneed=1", "fips140=on", "fips140=off", "fips140=debug", "fips140=", "fips140=true", "fips140=1",
		"fips140=true,fips140=on", "fips140=on,fips140=true", "madvdontneed=1,fips140=yes", "xfips140=yes",
	} {
		e := &examiner{function: &function{variables: map[string]string{"GODEBUG": value}}}
		e.checkGo()
		if got, want := len(e.report.Findings) == 0, starts("GODEBUG="+value); got != want {
			t.Errorf("GODEBUG=%q: %t, Go says %t", value, got, want)
		}
	}
}

// doctor reports values that Go's runtime cannot read, without showing secrets.
func TestGoVariables(t *testing.T) {
	for variable, want := range map[string]Finding{
		"GOMEMLIMIT=100MB": {
			settingsCheck,
			Problem,
			`GOMEMLIMIT is "100MB"; every Go program exits at once`,
			"set it to 100MiB: ",
		},
		"GOMEMLIMIT= 2 g":                      {settingsCheck, Problem, `GOMEMLIMIT is " 2 g"`, "set it to 2GiB: "},
		"GOMEMLIMIT=much":                      {settingsCheck, Problem, `GOMEMLIMIT is "much"`, "such as 100MiB: "},
		"GOMEMLIMIT=a-secret-by-mistake":       {settingsCheck, Problem, "GOMEMLIMIT cannot be used; every Go program", "such as 100MiB: "},
		"GODEBUG=gctrace=1,fips140=true":       {settingsCheck, Problem, `fips140 in GODEBUG is "true"`, "on, only, debug or off"},
		"GODEBUG=fips140=a-secret-by-mischief": {settingsCheck, Problem, `fips140 in GODEBUG cannot be used`, "on, only, debug or off"},
		"GOGC=50%":                             {settingsCheck, Warning, `GOGC is "50%"; Go programs ignore it`, "a whole number"},
		"GOGC=99999999999":                     {settingsCheck, Warning, `GOGC is "99999999999"`, "a whole number"},
		"GOGC=off":                             {},
		"GOGC=-1":                              {},
		"GOGC=":                                {},
		"GOMEMLIMIT=off":                       {},
		"GODEBUG=fips140=only":                 {},
	} {
		name, value, _ := strings.Cut(variable, "=")
		e := &examiner{function: &function{variables: map[string]string{name: value}}}
		e.checkGo()
		var got Finding
		for _, got = range e.report.Findings {
		}
		if len(e.report.Findings) > 1 || got.Status != want.Status || got.Check != want.Check ||
			!strings.Contains(got.Seen, want.Seen) || !strings.Contains(got.Fix, want.Fix) {
			t.Errorf("%s: %+v", variable, e.report.Findings)
		}
	}
}
