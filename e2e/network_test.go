package e2e_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// Proxies between the function and Kinesis change answers, limit requests, and are configured by hand.
func TestProxies(t *testing.T) {
	concurrent(t)
	bounded := func(b *interceptor, w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) > 200_000 {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		b.pass(w, r)
	}
	for _, test := range []struct {
		name     string
		handle   func(b *interceptor, w http.ResponseWriter, r *http.Request)
		settings func(url string) map[string]string
		says     string // expected log line, instead of delivery
	}{
		{"zips the answers", zipped, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": url}
		}, ""},
		{"takes 200 KB", bounded, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": url}
		}, ""},
		{"is a proxy with a newline", (*interceptor).pass, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": "http://kinesis.invalid", "HTTP_PROXY": " \"" + url + "\"\n"}
		}, ""},
		{"is a proxy with a % in its password", (*interceptor).pass, func(url string) map[string]string {
			return map[string]string{
				"KINESIS_TELEMETRY_ENDPOINT_URL": "http://kinesis.invalid",
				"HTTP_PROXY":                     strings.Replace(url, "://", "://user:SECRET%zz@", 1),
			}
		}, "HTTP_PROXY"},
		{"is a proxy that refuses", func(_ *interceptor, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
		}, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": "https://kinesis.invalid", "HTTPS_PROXY": url}
		}, "refuses to connect to kinesis.invalid:443"},
		{"is a firewall", func(_ *interceptor, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<html>blocked \x1b[31m")
		}, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": url}
		}, "a proxy or a firewall in between"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var b *interceptor
			r := newTrial(t, setup{extension: func(r *trial, x *sandbox.Extension) {
				b = newInterceptor(r, test.handle)
				maps.Copy(x.Env, test.settings(b.URL))
				x.Env["KINESIS_TELEMETRY_DELIVERY"] = "sync" // SHUTDOWN has little time
			}})
			for range 5 {
				r.invoke(mixed)
			}
			r.invoke(`{"text":300,"bytes":1000}`)
			report := r.end()
			printed := strings.Join(r.output.lines(), "\n")
			if strings.Contains(printed, "SECRET") || strings.Contains(printed, "\x1b") {
				t.Errorf("it logged %q", printed)
			}
			if test.says == "" {
				r.checkComplete(report, 365)
				if b.requests.Load() == 0 {
					t.Error("no request passed the proxy")
				}
				return
			}
			if report.Delivered > 0 || strings.Count(printed, test.says) != 1 {
				t.Errorf("%d events delivered; it logged %q", report.Delivered, printed)
			}
		})
	}
}

// slowTrial uses a function that is large enough for requests of 5 MiB.
func slowTrial(t *testing.T, rate int) *trial {
	t.Helper()
	return newTrial(t, setup{
		settings:  map[string]string{"KINESIS_TELEMETRY_BUFFER_BYTES": "67108864", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s"},
		kinesis:   kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
		extension: slow(rate),
	})
}

// At SHUTDOWN a slow path of 3 MB/s delivers about 4 MB in Lambda's two seconds. Requests that are too large for that would deliver
// nothing.
func TestBudgetSlowShutdown(t *testing.T) {
	budgets(t)
	r := slowTrial(t, 3_000_000)
	r.invoke(`{"text":6000,"bytes":1000,"duration":"10ms"}`)
	if report := r.end(); report.Delivered < 1500 {
		t.Errorf("%d of %d events delivered", report.Delivered, report.Emitted)
	}
}

// A backlog is delivered over a slow path. This takes a minute, with CHAOS=1.
func TestSlowSoak(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set")
	}
	for _, rate := range []int{500_000, 1_000_000} {
		t.Run(strconv.Itoa(rate), func(t *testing.T) {
			t.Parallel()
			r := slowTrial(t, rate)
			began := time.Now()
			r.invoke(`{"text":12000,"bytes":1000,"duration":"100ms"}`)
			for time.Since(began) < time.Minute {
				r.invoke(`{"text":1,"duration":"1s"}`)
			}
			report := r.end()
			t.Logf("%d of %d events delivered, %d twice", report.Delivered, report.Emitted, len(report.Duplicated))
			if len(report.Lost) > 0 || len(report.Duplicated) > 0 {
				t.Errorf("%d are lost", len(report.Lost))
			}
		})
	}
}
