//go:build unix

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Start returns an InitError. Its Type names the cause; its Message names the process and has its last lines.
func TestFailedInit(t *testing.T) {
	t.Parallel()
	notExecutable := filepath.Join(t.TempDir(), "ext")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		mode   string
		plan   plan
		change func(*Config)
		typ    string
		texts  []string // parts of the message
	}{
		{
			name:   "extension not executable",
			change: func(c *Config) { c.Extensions[0].Path = notExecutable },
			typ:    "Extension.LaunchError",
			texts:  []string{"ext", "permission denied", "chmod"},
		},
		{
			name:   "extension does not exist",
			change: func(c *Config) { c.Extensions[0].Path = "/nowhere/ext" },
			typ:    "Extension.LaunchError",
			texts:  []string{"/nowhere/ext", "no such file"},
		},
		{
			name:   "function does not exist",
			change: func(c *Config) { c.Function.Command[0] = "./bootstrap" },
			typ:    "Runtime.InvalidEntrypoint",
			texts:  []string{"bootstrap"},
		},
		{
			name:  "function exits",
			mode:  "exit",
			typ:   "Runtime.ExitError",
			texts: []string{"exit status 7", "cannot find my settings"},
		},
		{
			name:  "extension exits",
			plan:  plan{Exit: 3},
			typ:   "Extension.Crash",
			texts: []string{"x0", "exit status 3"},
		},
		{
			name:  "extension reports an error",
			plan:  plan{InitError: "Extension.ConfigInvalid"},
			typ:   "Extension.ConfigInvalid",
			texts: []string{"no stream"},
		},
		{
			name: "extension reports an invalid error type",
			plan: plan{InitError: "bad config!"},
			typ:  "Extension.InitError",
		},
		{
			name:   "extension registers with a wrong name",
			plan:   plan{Name: "other", Events: []string{}},
			change: func(c *Config) { c.InitTimeout = 5 * time.Second },
			typ:    "Sandbox.Timedout",
			texts:  []string{"x0 never registered", `"other"`, "file name"},
		},
		{
			name:  "extension registers with a wrong name and exits",
			plan:  plan{Name: "other", ExitIfRefused: 2},
			typ:   "Extension.Crash",
			texts: []string{"exit status 2", `"other"`, "file name", "it printed:\n\tregistration refused"},
		},
		{
			name: "extension prints many lines",
			plan: plan{Exit: 3, PrintLines: 20},
			typ:  "Extension.Crash",
			texts: []string{
				"first and last lines:\n\tline 0\n\tline 1\n\tline 2\n\tline 3\n\t… 8 more lines\n\tline 12\n",
				"\n\tline 19",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			cfg := testConfig(t, c, tc.mode, tc.plan)
			cfg.ShutdownTimeout = 300 * time.Millisecond
			if tc.change != nil {
				tc.change(&cfg)
			}
			e, err := Start(t.Context(), cfg)
			var initErr *InitError
			if !errors.As(err, &initErr) || initErr.Type != tc.typ || e != nil {
				t.Fatalf("got %v, %v", e, err)
			}
			for _, text := range tc.texts {
				if !strings.Contains(initErr.Message, text) {
					t.Errorf("%q does not contain %q", initErr.Message, text)
				}
			}
		})
	}
	t.Run("invalid Config", func(t *testing.T) {
		_, err := Start(t.Context(), Config{InitType: "x", Extensions: slices.Repeat([]Extension{{Path: "a"}}, 11)})
		for _, text := range []string{"Command", "InitType", `named "a"`, "11 extensions"} {
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), text) {
				t.Errorf("%v does not contain %q", err, text)
			}
		}
	})
}

// With RetryInit the first invocation retries a failed init, as on Lambda.
func TestRetryInit(t *testing.T) {
	c := newCollector(t)
	subscribed := filepath.Join(t.TempDir(), "subscribed")
	cfg := testConfig(t, c, "once", plan{Subscribe: subscribeAll, MarkerFile: subscribed})
	cfg.RetryInit = true
	cfg.Function.Env["MARKER"], cfg.Function.Env["SUBSCRIBED"] = filepath.Join(t.TempDir(), "marker"), subscribed
	e := start(t, cfg)
	if r := invoke(t, e, task{}); r.Status != "success" || r.Init != 0 {
		t.Errorf("%+v", r)
	}
	shutdown(t, e)
	reports := ofType(c.checkDelivered("x0"), "platform.initReport")
	if len(reports) != 2 || reports[0].field(t, "status") != "error" || reports[0].field(t, "errorType") != "Runtime.ExitError" ||
		reports[1].field(t, "status") != "success" || reports[1].field(t, "phase") != "invoke" {
		t.Errorf("%q", reports)
	}
}
