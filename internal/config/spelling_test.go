package config

import (
	"fmt"
	"strings"
	"testing"
)

// White space, quotes, case and trailing commas do not matter.
func TestSpellingDoesNotMatter(t *testing.T) {
	read := map[string]func(*Config) any{
		"ENABLED":       func(c *Config) any { return c.Enabled },
		"LOG_LEVEL":     func(c *Config) any { return c.LogLevel },
		"EVENTS":        func(c *Config) any { return c.Events },
		"TAGS":          func(c *Config) any { return c.Tags },
		"DELIVERY":      func(c *Config) any { return c.Delivery },
		"ON_ERROR":      func(c *Config) any { return c.OnError },
		"FORMAT":        func(c *Config) any { return c.Format },
		"COMPRESSION":   func(c *Config) any { return c.Compression },
		"MAX_DELAY":     func(c *Config) any { return c.MaxDelay },
		"BUFFER_BYTES":  func(c *Config) any { return c.BufferBytes },
		"PARTITION_KEY": func(c *Config) any { return c.PartitionKey },
		"STREAM":        func(c *Config) any { return c.AWS.Stream },
		"SPILL_DIR":     func(c *Config) any { return c.SpillDir },
		"ENDPOINT_URL":  func(c *Config) any { return c.AWS.EndpointURL },
	}
	for _, test := range []struct{ name, want, values string }{ // values are separated by |
		{"ENABLED", "true", "true|TRUE|t|1|yes|Yes|y|on|ON| on |'yes'|on,|"},
		{"ENABLED", "false", "false|False|f|0|no|NO|n|off|Off\n|\"off\""},
		{"LOG_LEVEL", "DEBUG", "debug|DEBUG|trace|Trace"},
		{"LOG_LEVEL", "INFO", "info|Info"},
		{"LOG_LEVEL", "WARN", "warn|WARNING|Warn|"},
		{"LOG_LEVEL", "ERROR", "error|ERROR|critical|FATAL"},
		{"LOG_LEVEL", "OFF", "off|OFF|none|None"},
		{"EVENTS", "[platform function]", "platform,function|platform,function,| Platform , FUNCTION |,platform,,function"},
		{"EVENTS", "[platform function]", "platform,function,platform|\"platform,function\"||,"},
		{"EVENTS", "[extension]", "extension|Extension,"},
		{"TAGS", "map[a:b c:d]", "a=b,c=d|a=b,c=d,| a = b , c = d |,a=b,,c=d|'a=b,c=d'"},
		{"TAGS", `map[a:"b" c:"d"]`, `a="b",c="d"`},
		{"TAGS", "map[]", "|,"},
		{"DELIVERY", "sync", "sync|SYNC|sync,| 'sync' "},
		{"ON_ERROR", "fail", "fail|Fail|\tfail\n"},
		{"FORMAT", "json", "json|JSON|json,"},
		{"COMPRESSION", "none", "none|None|none,|"},
		{"MAX_DELAY", "10s", "10s|10 s|10S| 10s,|'10s'"},
		{"BUFFER_BYTES", "2000000", "2000000| 2000000\n|'2000000'|2000000,"},
		{"PARTITION_KEY", "request", "request|Request|REQUEST,"},
		{"STREAM", "Orders", "Orders| Orders |\"Orders\"|'Orders'\n"},
		{"SPILL_DIR", "", "| |''|\"\""},
		{"SPILL_DIR", `/a"b`, `/a"b`},
		{"SPILL_DIR", `"a`, `"a`},
		{"ENDPOINT_URL", "https://vpce.example", "https://vpce.example|https://vpce.example\n|\"https://vpce.example\""},
	} {
		for value := range strings.SplitSeq(test.values, "|") {
			cfg, mistakes := with(variables(map[string]string{test.name: value}))
			if got := fmt.Sprint(read[test.name](&cfg)); got != test.want || len(mistakes)+len(cfg.Warnings) > 0 {
				t.Errorf("%s=%q is read as %s, want %s; %v %v", test.name, value, got, test.want, mistakes, cfg.Warnings)
			}
		}
	}
}

// An unknown log level is a warning, and the level is the default.
func TestUnknownLogLevel(t *testing.T) {
	cfg, mistakes := with(variables(map[string]string{"LOG_LEVEL": "Loud"}))
	if len(mistakes) > 0 || cfg.LogLevel != LogWarn || len(cfg.Warnings) != 1 ||
		!strings.HasPrefix(cfg.Warnings[0].String(), Prefix+`LOG_LEVEL is "loud": expected one of debug, info, warn, error, off`) {
		t.Errorf("%v, %v, %v", mistakes, cfg.LogLevel, cfg.Warnings)
	}
}
