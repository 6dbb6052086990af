package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/record"
)

// reader reads variables and collects their mistakes. A variable with an empty value counts as not set, unless the
// empty value has a meaning.
type reader struct {
	variables map[string]string
	known     map[string]bool // the variables that were read
	mistakes  []Mistake
	warnings  []Mistake
}

func newReader(environ []string) *reader {
	r := &reader{variables: make(map[string]string, len(environ)), known: map[string]bool{}}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		r.variables[name] = value
	}
	return r
}

func (r *reader) get(name string) string { return r.getOr(name, "") }

// getOr returns the default only if the variable is not set at all.
func (r *reader) getOr(name, def string) string {
	r.known[name] = true
	value, set := r.variables[name]
	if !set {
		return def
	}
	return trim(value)
}

// trim removes white space, and the quotes that a file of variables may have around a value.
func trim(value string) string {
	value = strings.TrimSpace(value)
	for _, quote := range []string{`"`, `'`} {
		if strings.Count(value, quote) == 2 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
			value = strings.TrimSpace(strings.Trim(value, quote))
		}
	}
	return value
}

// word reads a setting. Case and a trailing comma do not matter.
func (r *reader) word(name string) string { return strings.ToLower(strings.Trim(r.get(name), ", ")) }

// items reads a comma-separated list, without empty items, such as after a last comma.
func (r *reader) items(name string) []string {
	items := strings.Split(r.get(name), ",")
	for i, item := range items {
		items[i] = strings.TrimSpace(item)
	}
	return slices.DeleteFunc(items, func(item string) bool { return item == "" })
}

// mistake adds a variable that cannot be used. It does not show the value, which may be a secret: the URL of an
// endpoint or a proxy may contain a password, and a name may be a secret by mistake.
func (r *reader) mistake(name, expected string, args ...any) {
	problem := "cannot be used"
	if r.get(name) == "" {
		problem = "is not set"
	}
	addOnce(&r.mistakes, Mistake{name, problem, fmt.Sprintf(expected, args...)})
}

// malformed adds a value that should be a word, a number or a duration and is not. It shows the value, since no secret
// is expected there.
func (r *reader) malformed(name, value, expected string, args ...any) {
	addOnce(&r.mistakes, Mistake{name, DescribeValue(value), fmt.Sprintf(expected, args...)})
}

func (r *reader) warn(name, problem, expected string) {
	addOnce(&r.warnings, Mistake{name, problem, expected})
}

// addOnce adds a mistake unless the list has one of the same variable: a variable that several services read has one
// mistake.
func addOnce(list *[]Mistake, m Mistake) {
	if !slices.ContainsFunc(*list, func(other Mistake) bool { return other.Variable == m.Variable }) {
		*list = append(*list, m)
	}
}

// maxShown is the length up to which a value is shown. Passwords and keys are longer.
const maxShown = 16

// DescribeValue returns "is" and the value in quotes, if it is short and of printable ASCII characters. A longer value
// is no word or number and may be a secret, and a terminal would obey control characters.
func DescribeValue(value string) string {
	if len(value) > maxShown || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "cannot be used"
	}
	return fmt.Sprintf("is %q", value)
}

// choice reads one of a few words. The first one is the default.
func choice[T ~string](r *reader, name string, words ...T) T {
	value := r.word(name)
	if value == "" {
		return words[0]
	}
	if !slices.Contains(words, T(value)) {
		r.malformed(name, value, "expected one of %s", oneOf(words))
		return words[0]
	}
	return T(value)
}

func oneOf[T ~string](words []T) string {
	parts := make([]string, len(words))
	for i, word := range words {
		parts[i] = string(word)
	}
	return strings.Join(parts, ", ")
}

func (r *reader) boolean(name string, def bool) bool {
	switch value := r.word(name); value {
	case "":
		return def
	case "true", "t", "yes", "y", "on", "1":
		return true
	case "false", "f", "no", "n", "off", "0":
		return false
	default:
		r.malformed(name, value, "expected true or false")
		return def
	}
}

func (r *reader) integer(name string, def, lo, hi int) int {
	value := r.word(name)
	if value == "" {
		return def
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < lo || n > hi {
		r.malformed(name, value, "expected a whole number of bytes from %d to %d", lo, hi)
		return def
	}
	return n
}

func (r *reader) duration(name string, def, lo, hi time.Duration) time.Duration {
	value := r.word(name)
	if value == "" {
		return def
	}
	d, err := time.ParseDuration(strings.ReplaceAll(value, " ", ""))
	if err != nil || d < lo || d > hi {
		r.malformed(name, value, "expected a duration with its unit from %s to %s, such as 500ms or 10s", lo, hi)
		return def
	}
	return d
}

// level reads the level names of common loggers in all languages. An unknown name is only a warning.
func (r *reader) level(name string) LogLevel {
	switch value := r.word(name); value {
	case "trace", "debug":
		return LogDebug
	case "info":
		return LogInfo
	case "", "warn", "warning":
	case "error", "critical", "fatal":
		return LogError
	case "off", "none":
		return LogOff
	default:
		r.warn(name, DescribeValue(value), "expected one of debug, info, warn, error, off; the level is warn")
	}
	return LogWarn
}

func (r *reader) events(name string) []lambdaapi.TelemetryType {
	all := []lambdaapi.TelemetryType{lambdaapi.Platform, lambdaapi.Function, lambdaapi.Extension}
	var events []lambdaapi.TelemetryType
	for _, word := range r.items(name) {
		kind := lambdaapi.TelemetryType(strings.ToLower(word))
		if !slices.Contains(all, kind) {
			r.malformed(name, word, "expected a comma-separated list of %s", oneOf(all))
			return all[:2]
		}
		if !slices.Contains(events, kind) {
			events = append(events, kind)
		}
	}
	if len(events) == 0 {
		return all[:2]
	}
	return events
}

const (
	maxTags      = 50
	maxTagLength = 256 // characters of a key or a value, as for AWS's own tags
)

func (r *reader) tags(name string) map[string]string {
	var tags map[string]string
	for _, pair := range r.items(name) {
		key, content, found := strings.Cut(pair, "=")
		key, content = strings.TrimSpace(key), strings.TrimSpace(content)
		_, twice := tags[key]
		if !found || key == "" || twice || len(tags) == maxTags ||
			utf8.RuneCountInString(key) > maxTagLength || utf8.RuneCountInString(content) > maxTagLength {
			r.mistake(name, "expected key=value,key=value: at most %d different keys, keys and values of at most %d characters",
				maxTags, maxTagLength)
			return nil
		}
		if tags == nil {
			tags = map[string]string{}
		}
		tags[key] = content
	}
	return tags
}

// compression reads COMPRESSION. Some formats allow only one value.
func (r *reader) compression(format record.Format) record.Compression {
	name := Prefix + "COMPRESSION"
	if r.get(name) == "" && format == record.CloudWatch {
		return record.Gzip
	}
	compression := choice(r, name, record.Uncompressed, record.Gzip, record.Zstd)
	switch {
	case format == record.CloudWatch && compression != record.Gzip:
		r.mistake(name, "records of the format cloudwatch are always compressed with gzip: expected gzip, or no value")
		return record.Gzip
	case format == record.KPL && compression != record.Uncompressed:
		r.mistake(name, "consumers deaggregate records of the format kpl before they can decompress them: expected none")
		return record.Uncompressed
	}
	return compression
}

func (r *reader) first(names ...string) string {
	for _, name := range names {
		if value := r.get(name); value != "" {
			return value
		}
	}
	return ""
}

// unknown warns of variables with our prefix that are no settings. Without the warning, a typing error would silently
// mean the default.
func (r *reader) unknown() {
	var unknown []string
	for name := range r.variables {
		if strings.HasPrefix(name, Prefix) && !r.known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		r.warn(name, "has no effect", "there is no such setting; the name after "+Prefix+" must be one of "+r.settings())
	}
}

// settings returns the names of the extension's own settings that were read, without Prefix.
func (r *reader) settings() string {
	var settings []string
	for _, name := range slices.Sorted(maps.Keys(r.known)) {
		if setting, own := strings.CutPrefix(name, Prefix); own {
			settings = append(settings, setting)
		}
	}
	return strings.Join(settings, ", ")
}
