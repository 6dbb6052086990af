package doctor

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"kinesis-telemetry-extension/internal/config"
)

// checkGo checks the function's variables that Go's runtime reads before the program starts.
// Extensions get them, too, whatever the function's language.
func (e *examiner) checkGo() {
	const exits = "; every Go program exits at once, the extension included, and the function's init fails"
	variables := e.function.variables
	if limit := variables["GOMEMLIMIT"]; !isMemoryLimit(limit) {
		e.add(settingsCheck, Problem, "GOMEMLIMIT "+config.DescribeValue(limit)+exits,
			"set it to "+meantLimit(limit)+": Go reads bytes, a number with B, KiB, MiB, GiB or TiB, or off")
	}
	if mode := fipsMode(variables["GODEBUG"]); !slices.Contains([]string{"", "off", "on", "only", "debug"}, mode) {
		e.add(settingsCheck, Problem, "fips140 in GODEBUG "+config.DescribeValue(mode)+exits, "set it to on, only, debug or off")
	}
	if percent := variables["GOGC"]; percent != "" && percent != "off" {
		if _, err := strconv.ParseInt(percent, 10, 32); err != nil {
			e.add(settingsCheck, Warning, "GOGC "+config.DescribeValue(percent)+"; Go programs ignore it", "set it to a whole number, or to off")
		}
	}
}

// isMemoryLimit reports whether Go's runtime can read a value of GOMEMLIMIT (runtime.parseByteCount).
func isMemoryLimit(value string) bool {
	if value == "" || value == "off" {
		return true
	}
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB", "B"} {
		if digits, found := strings.CutSuffix(value, unit); found {
			value, shift = digits, 10*(i+1)%50
			break
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return err == nil && n >= 0 && n <= math.MaxInt64>>shift
}

var looseLimit = regexp.MustCompile(`^\s*([0-9]{1,9})\s*([kKmMgGtT])i?[bB]?\s*$`)

// meantLimit returns the limit that the author of an invalid value probably meant.
func meantLimit(value string) string {
	if part := looseLimit.FindStringSubmatch(value); part != nil {
		return part[1] + strings.ToUpper(part[2]) + "iB"
	}
	return "one such as 100MiB"
}

// fipsMode returns the value of fips140 in GODEBUG. If it is set several times, the last one counts.
func fipsMode(godebug string) string {
	mode := ""
	for setting := range strings.SplitSeq(godebug, ",") {
		if name, value, _ := strings.Cut(setting, "="); name == "fips140" {
			mode = value
		}
	}
	return mode
}
