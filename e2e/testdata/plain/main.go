// Plain is an extension that ships telemetry to Kinesis without parsing it: each POST leaves unaltered, cut into
// records, in one signed request, before the POST is answered. Its cost is the floor for the real extension.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const recordBytes = 100_000

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API")
	header, _ := call(http.MethodPost, base+"/2020-01-01/extension/register", `{"events":["INVOKE","SHUTDOWN"]}`,
		"Lambda-Extension-Name", filepath.Base(os.Args[0]))
	id := header.Get("Lambda-Extension-Identifier")
	listener, err := net.Listen("tcp", ":0")
	check(err)
	server := http.Server{Handler: newShipper()}
	go server.Serve(listener) //nolint:errcheck // ends with Shutdown
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	call(http.MethodPut, base+"/2022-07-01/telemetry", `{"schemaVersion":"2025-01-29","types":["platform","function"],`+
		`"buffering":{"maxItems":10000,"maxBytes":1048576,"timeoutMs":25},`+
		`"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:`+port+`"}}`, "Lambda-Extension-Identifier", id)
	for shutdown := false; !shutdown; {
		_, event := call(http.MethodGet, base+"/2020-01-01/extension/event/next", "", "Lambda-Extension-Identifier", id)
		shutdown = bytes.Contains(event, []byte(`"SHUTDOWN"`))
	}
	check(server.Shutdown(context.Background()))
}

// shipper ships each POST and padding, so that it ships as many bytes as an extension that adds members to each event.
type shipper struct {
	mu            sync.Mutex // guards all below
	padding       float64    // bytes for each byte that is posted
	data, request []byte
	signer        *v4.Signer
	credentials   aws.Credentials
}

func newShipper() *shipper {
	padding, err := strconv.ParseFloat(os.Getenv("PLAIN_PADDING"), 64)
	check(err)
	return &shipper{padding: padding, signer: v4.NewSigner(), credentials: aws.Credentials{
		AccessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken:    os.Getenv("AWS_SESSION_TOKEN"),
	}}
}

func (s *shipper) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	posted := int(r.ContentLength)
	if size := posted + int(float64(posted)*s.padding); size > cap(s.data) {
		s.data = make([]byte, size)
	} else {
		s.data = s.data[:size]
	}
	_, err := io.ReadFull(r.Body, s.data[:posted])
	check(err)
	body := append(s.request[:0], `{"StreamName":"telemetry-kinesis-stream","Records":[`...)
	for data := s.data; len(data) > 0; {
		n := min(len(data), recordBytes)
		body = append(body, `{"Data":"`...)
		body = base64.StdEncoding.AppendEncode(body, data[:n])
		body = append(body, `","PartitionKey":"0"},`...)
		data = data[n:]
	}
	s.request = append(body[:len(body)-1], `]}`...)
	s.put()
}

func (s *shipper) put() {
	request, err := http.NewRequest(http.MethodPost, os.Getenv("KINESIS_TELEMETRY_ENDPOINT_URL"), bytes.NewReader(s.request))
	check(err)
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecords")
	sum := sha256.Sum256(s.request)
	hash, region := hex.EncodeToString(sum[:]), os.Getenv("AWS_REGION")
	check(s.signer.SignHTTP(context.Background(), s.credentials, request, hash, "kinesis", region, time.Now()))
	if _, answer := do(request); !bytes.Contains(answer, []byte(`"FailedRecordCount":0`)) {
		panic(string(answer))
	}
}

func call(method, url, body, name, value string) (header http.Header, answer []byte) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	check(err)
	request.Header.Set(name, value)
	return do(request)
}

func do(request *http.Request) (header http.Header, answer []byte) {
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	check(err)
	return response.Header, answer
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
