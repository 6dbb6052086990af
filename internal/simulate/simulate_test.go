package simulate

import (
	"encoding/xml"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
)

// small returns the scenarios, shortened for a test.
func small() []Scenario {
	scenarios := Scenarios()
	for i := range scenarios {
		s := &scenarios[i]
		s.Length = min(s.Length, 2*time.Hour)
		if s.Environments > 1 {
			s.Environments, s.Shards = s.Environments/64, (s.Shards+63)/64
		}
	}
	return scenarios
}

// Each event is stored once or counted as undelivered, and no invocation is held back longer than FLUSH_TIMEOUT.
func TestEveryEventIsStoredOnceOrUndelivered(t *testing.T) {
	for _, s := range small() {
		for _, mode := range Modes {
			w := newWorld(s, defaults(mode))
			type key struct {
				invocation int32
				index      int16
			}
			seen := make(map[key]bool)
			w.onStored = func(e Event) {
				if k := (key{e.invocation, e.Index}); seen[k] {
					t.Fatalf("%s %s: event %v was stored twice", s.Name, mode, k)
				} else {
					seen[k] = true
				}
			}
			w.run()
			f := &w.figures
			if f.Emitted != f.Begun*(s.Lines+3) || f.Emitted != f.Stored+f.Undelivered || f.Stored != len(seen) {
				t.Errorf("%s %s: %d invocations emitted %d events, of which %d are stored (%d of them different) and %d undelivered",
					s.Name, mode, f.Begun, f.Emitted, f.Stored, len(seen), f.Undelivered)
			}
			if f.Hold.count != f.Invocations {
				t.Errorf("%s %s: %d invocations began, %d ended", s.Name, mode, f.Invocations, f.Hold.count)
			}
			if f.Hold.longest > w.settings.FlushTimeout {
				t.Errorf("%s %s: an invocation was held back for %v", s.Name, mode, f.Hold.longest)
			}
		}
	}
}

// Two runs of a scenario give the same figures.
func TestRunsAreEqual(t *testing.T) {
	for _, s := range small()[5:9] {
		if first, second := Run(s, flush.Adaptive), Run(s, flush.Adaptive); !reflect.DeepEqual(first, second) {
			t.Errorf("%s: two runs differ:\n%+v\n%+v", s.Name, first, second)
		}
	}
}

// Of the three modes, adaptive has the lowest mean objective.
func TestAdaptiveMinimizesTheObjective(t *testing.T) {
	means := objectives(All(small())...)
	if best := slices.Index(means, slices.Min(means)); Modes[best] != flush.Adaptive {
		t.Errorf("objectives of %v are %.1f", Modes, means)
	}
}

// The picture is valid XML, and its timelines show the invocations, requests and holds of their texts.
func TestPicture(t *testing.T) {
	picture := Picture(All(small()[:3]))
	var document struct {
		Bars []struct {
			Class string `xml:"class,attr"`
			Y     int    `xml:"y,attr"`
		} `xml:"rect"`
		Texts []string `xml:"text"`
	}
	if err := xml.Unmarshal([]byte(picture), &document); err != nil {
		t.Fatal(err)
	}
	const legend = 308
	drawn := make(map[string]int)
	for _, bar := range document.Bars {
		if bar.Y < legend {
			drawn[bar.Class]++
		}
	}
	for class, want := range map[string]int{"handler": 8 + 1, "put": 1 + 1, "held": 1, "frozen": 2} {
		if drawn[class] != want {
			t.Errorf("%d bars are %q, want %d", drawn[class], class, want)
		}
	}
	counts := func(text string) bool { return strings.Contains(text, "here 203") }
	if strings.Contains(picture, "%!") || !slices.ContainsFunc(document.Texts, counts) {
		t.Errorf("the texts are %q", document.Texts)
	}
}

// Quantile is exact to 1/64 of the value.
func TestQuantile(t *testing.T) {
	var h Histogram
	for ms := range 1000 {
		h.add(time.Duration(ms+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{
		0: time.Millisecond, 0.5: 501 * time.Millisecond, 0.99: 991 * time.Millisecond, 1: time.Second,
	} {
		if got := h.Quantile(q); got < want-time.Microsecond || got > want+want/64 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
