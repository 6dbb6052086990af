package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

func TestMain(m *testing.M) {
	testscript.Main(allTests{m}, map[string]func(){
		"ktel":          main,
		"other-kinesis": serveKinesis,
		"beside":        extendBeside,
	})
}

// allTests runs the tests in the environment of a shell with an account, which tests in parallel cannot set for themselves.
type allTests struct{ *testing.M }

// waitingTests is how many tests run in parallel unless -parallel or -fuzz is given: most of them wait and need little CPU.
const waitingTests = "6"

func (m allTests) Run() int {
	for _, name := range foreignVariables() {
		os.Unsetenv(name)
	}
	for name, value := range accountEnviron() {
		os.Setenv(name, value)
	}
	endTailTime = 8 * time.Second
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" || f.Name == "test.fuzz" })
	if !given {
		flag.Set("test.parallel", waitingTests)
	}
	defer func() { os.RemoveAll(programsDir) }()
	return m.M.Run()
}

// serveKinesis is the program other-kinesis: it serves Kinesis and writes its address to the file of its argument.
func serveKinesis() {
	server, err := kinesislocal.Start(kinesislocal.Options{})
	if err == nil {
		err = os.WriteFile(os.Args[1]+".new", []byte(server.URL()), 0o600)
	}
	if err == nil {
		err = os.Rename(os.Args[1]+".new", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	<-interrupted
	_ = server.Close()
}

// extendBeside is the program beside: an extension that asks for events until SHUTDOWN.
func extendBeside() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"
	call := func(method, path, id, body string) (*http.Response, []byte) {
		request, err := http.NewRequest(method, api+path, strings.NewReader(body))
		if err == nil {
			request.Header.Set("Lambda-Extension-Name", "beside")
			request.Header.Set("Lambda-Extension-Identifier", id)
			var response *http.Response
			if response, err = http.DefaultClient.Do(request); err == nil {
				defer response.Body.Close()
				data, _ := io.ReadAll(response.Body)
				return response, data
			}
		}
		fmt.Println(err)
		os.Exit(1)
		return nil, nil
	}
	response, _ := call(http.MethodPost, "register", "", `{"events":["INVOKE","SHUTDOWN"]}`)
	id := response.Header.Get("Lambda-Extension-Identifier")
	fmt.Println("registered")
	for {
		if _, event := call(http.MethodGet, "event/next", id, ""); bytes.Contains(event, []byte("SHUTDOWN")) {
			return
		}
	}
}

// Each script in testdata/script shows a command.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: goEnvironment,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":      await,
			"columns":    columns,
			"processes":  processes,
			"programs":   programs,
			"readenv":    readenv,
			"requestids": requestids,
			"status":     status,
			"usageerror": usageerror,
		},
	})
}

const patient = "--env=KINESIS_TELEMETRY_FLUSH_TIMEOUT=10s"

// goEnvironment sets the go command's variables, so that scripts, which have their own home, can build. PATIENT is an argument of
// ktel run for a busy machine: by default, the extension cuts off a request after half a second there, and sends it again.
func goEnvironment(env *testscript.Env) error {
	names := []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOENV", "GOFLAGS", "GOROOT", "GOMOD"}
	output, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	values := strings.Split(string(output), "\n")
	for i, name := range names[:len(names)-1] {
		env.Setenv(name, values[i])
	}
	env.Setenv("MODULE", filepath.Dir(values[len(names)-1]))
	bin := filepath.SplitList(env.Getenv("PATH"))[0]
	env.Setenv("BIN", bin)
	env.Setenv("PATIENT", patient)
	env.Setenv("BESIDE", filepath.Join(bin, "beside"))
	return nil
}
