package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/kinesislocal"
)

const faultWords = `  throttle=P     records of puts and calls of GetRecords are throttled
  error=P        500 InternalFailureException
  unavailable=P  503 ServiceUnavailable
  denied=P       400 AccessDeniedException
  expired=P      400 ExpiredTokenException
  lost=P         the request is executed, then its connection is reset
  reset=P        the connection is reset, and the request is not executed
  hang=P         the request gets no answer and is not executed
  latency=TIME   the answer is delayed by TIME`

// requestFaults are the faults of whole requests, in the order of the help.
var requestFaults = []struct {
	word string
	rule kinesislocal.Rule
}{
	{"error", kinesislocal.Rule{ErrorType: "InternalFailureException"}},
	{"unavailable", kinesislocal.Rule{ErrorType: "ServiceUnavailable"}},
	{"denied", kinesislocal.Rule{ErrorType: "AccessDeniedException"}},
	{"expired", kinesislocal.Rule{ErrorType: "ExpiredTokenException"}},
	{"lost", kinesislocal.Rule{StoreThenReset: true}},
	{"reset", kinesislocal.Rule{Reset: true}},
	{"hang", kinesislocal.Rule{Hang: true}},
}

const (
	noFaults      = "none"
	faultThrottle = "throttle"
	faultLatency  = "latency"
	everyCall     = "*"
	// maxFaultText is far more than any list of rules needs.
	maxFaultText = 1 << 20
)

// faults are rules, and the text that they were parsed from: words or JSON. An empty text means no faults.
type faults struct {
	text  string
	rules *kinesislocal.Faults
}

// readFaults parses words, or the content of a file that is named after an @.
func readFaults(text string) (faults, error) {
	if path, ok := strings.CutPrefix(text, "@"); ok {
		content, err := os.ReadFile(path)
		if err != nil {
			return faults{}, usageError(fmt.Sprintf("cannot read the faults: %v", err))
		}
		text = string(content)
	}
	f, err := parseFaults(text)
	if err != nil {
		return faults{}, usageError("faults: "+err.Error(), "'ktel kinesis --help' lists the words, such as throttle=0.3,latency=50ms")
	}
	return f, nil
}

// parseFaults parses words that are separated by commas, or the JSON of kinesislocal.Faults.
func parseFaults(text string) (faults, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == noFaults {
		return faults{}, nil
	}
	f := faults{text: text}
	var err error
	if strings.HasPrefix(text, "{") {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&f.rules)
	} else {
		f.rules, err = faultsOfWords(text)
	}
	if err == nil {
		err = f.rules.Validate()
	}
	return f, err
}

func faultsOfWords(text string) (*kinesislocal.Faults, error) {
	shares, latency := map[string]float64{}, time.Duration(0)
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		word, value, valued := strings.Cut(strings.TrimSpace(part), "=")
		if seen[word] {
			return nil, fmt.Errorf("%s is given twice", word)
		}
		seen[word] = true
		switch {
		case word == faultLatency:
			var err error
			if latency, err = time.ParseDuration(value); err != nil || latency < 0 {
				return nil, fmt.Errorf("%q: the value must be a duration, such as latency=50ms", part)
			}
		case !isFault(word):
			return nil, fmt.Errorf("there is no fault %q", word)
		default:
			share := 1.0
			if valued {
				var err error
				if share, err = strconv.ParseFloat(value, 64); err != nil || !(share >= 0 && share <= 1) {
					return nil, fmt.Errorf("%q: the value must be a share from 0 to 1, such as %s=0.3", part, word)
				}
			}
			shares[word] = share
		}
	}
	return faultsOf(shares, latency)
}

func isFault(word string) bool {
	for _, o := range requestFaults {
		if o.word == word {
			return true
		}
	}
	return word == faultThrottle
}

// faultsOf returns the rules. The first rule that matches a request decides: first come the faults of whole requests,
// then those of records, then the latency of all others.
func faultsOf(shares map[string]float64, latency time.Duration) (*kinesislocal.Faults, error) {
	f := &kinesislocal.Faults{}
	left := 1.0 // the share of requests that no earlier rule matches
	for _, o := range requestFaults {
		share := shares[o.word]
		if share == 0 { // in a rule, probability 0 means always
			continue
		}
		if share > left+1e-9 {
			return nil, errors.New("the shares of the requests add up to more than 1")
		}
		rule := o.rule
		rule.Operation, rule.Probability = everyCall, min(1, share/left)
		f.Rules = append(f.Rules, rule)
		left -= share
	}
	if share := shares[faultThrottle]; share > 0 {
		const throttled = "ProvisionedThroughputExceededException"
		f.Rules = append(f.Rules,
			kinesislocal.Rule{Operation: "PutRecords", RecordError: &kinesislocal.RecordError{Probability: share}},
			kinesislocal.Rule{Operation: "PutRecord", RecordError: &kinesislocal.RecordError{Probability: share}},
			kinesislocal.Rule{Operation: "GetRecords", Probability: share, ErrorType: throttled})
	}
	if latency > 0 {
		for i := range f.Rules {
			f.Rules[i].Delay = latency
		}
		f.Rules = append(f.Rules, kinesislocal.Rule{Operation: everyCall, Delay: latency})
	}
	return f, nil
}

const faultPath = "/faults"

// faultHandler serves Kinesis, and its faults at faultPath, where they can be read and replaced. A web page in a
// browser cannot replace them: its preflight request for PUT is refused.
type faultHandler struct {
	server *kinesislocal.Server
	mu     sync.Mutex // guards text, and keeps it in step with the server's rules
	text   string
}

func (s *faultHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != faultPath {
		s.server.ServeHTTP(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFaultText))
		var f faults
		if err == nil {
			f, err = parseFaults(string(body))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.server.SetFaults(f.rules)
		s.text = f.text
	case http.MethodGet:
	default:
		http.Error(w, "GET or PUT", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set(faultHeader, "1")
	_, _ = fmt.Fprintln(w, cmp.Or(s.text, noFaults))
}

// faultHeader distinguishes a ktel kinesis from another server at that address.
const faultHeader = "Ktel-Faults"

const kinesisFaultLong = `fault replaces the faults of a running 'ktel kinesis', or shows them:

` + faultWords + `

none removes them. P is the share of the requests, 0 to 1 (default 1). @FILE
contains rules as JSON. curl can replace them, too: curl -X PUT -d throttle=0.3 ` + "http://" + kinesisListen + faultPath

func (a *app) kinesisFaultCommand() *cobra.Command {
	endpoint := ""
	cmd := &cobra.Command{
		Use:   "fault [flags] [FAULTS | @FILE | none]",
		Short: "Change the faults of a running 'ktel kinesis'",
		Long:  kinesisFaultLong,
		Example: `  ktel kinesis fault throttle=0.3,latency=50ms
  ktel kinesis fault none`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(fmt.Sprintf("fault takes one argument, not %d", len(args)), "separate words by commas: throttle=0.3,latency=50ms")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			endpoint = cmp.Or(endpoint, os.Getenv("AWS_ENDPOINT_URL_KINESIS"), os.Getenv("AWS_ENDPOINT_URL"), "http://"+kinesisListen)
			if _, err := kinesis.ParseEndpointURL(endpoint); err != nil { // the URL is not shown: it may contain a password
				return usageError(fmt.Sprintf("--endpoint-url: %v, without a user, a password, a query or a fragment", err))
			}
			return a.kinesisFault(cmd.Context(), endpoint, args)
		},
	}
	cmd.Flags().StringVar(&endpoint, "endpoint-url", "",
		"`URL` of the 'ktel kinesis' (default AWS_ENDPOINT_URL_KINESIS, then http://"+kinesisListen+")")
	return cmd
}

func (a *app) kinesisFault(ctx context.Context, endpoint string, args []string) error {
	method, text := http.MethodGet, ""
	if len(args) > 0 {
		f, err := readFaults(args[0])
		if err != nil {
			return err
		}
		method, text = http.MethodPut, f.text
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(endpoint, "/")+faultPath, strings.NewReader(text))
	if err != nil {
		return cannot(err)
	}
	response, err := http.DefaultClient.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return cannot(fmt.Errorf("nothing listens at %s", endpoint), "start 'ktel kinesis', or name its address by --endpoint-url")
	}
	if err != nil {
		return cannot(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxFaultText))
	if err != nil {
		return cannot(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get(faultHeader) == "" {
		return cannot(fmt.Errorf("the server at %s is not a 'ktel kinesis': %s", endpoint, response.Status), "name its address by --endpoint-url")
	}
	_, err = a.stdout.Write(bytes.TrimLeft(body, " "))
	return err
}
