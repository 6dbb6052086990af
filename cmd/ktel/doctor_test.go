package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/doctor"
	"kinesis-telemetry-extension/internal/kinesislocal"
)

// doctor finds each misconfiguration of a shell and its stream.
func TestDoctorShell(t *testing.T) {
	const prefix = "KINESIS_TELEMETRY_"
	type variables = map[string]string
	for name, test := range map[string]struct {
		variables variables
		status    int
		want      []wantFinding
	}{
		"all well": {
			want: []wantFinding{
				{"region", doctor.OK, testRegion, ""},
				{"credentials", doctor.OK, "arn:aws:iam::123456789012:user/me", ""},
				{"settings", doctor.OK, "stream orders, delivery adaptive, events platform,function", ""},
				{"endpoint", doctor.OK, "answers in", ""},
				{"stream", doctor.OK, "arn:aws:kinesis:eu-west-1:123456789012:stream/orders is ACTIVE", ""},
				{"capacity", doctor.OK, "provisioned: 2 shards take 2 MiB or 2000 records a second", ""},
				{"record size", doctor.OK, "records of up to 1048576 bytes, the stream takes 1024 KiB", ""},
				{"encryption", doctor.OK, "none", ""},
				{"write", doctor.OK, "a PutRecords dry run passed", ""},
			},
		},
		"its own ARN": {
			variables: variables{prefix + "STREAM": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"},
			want:      []wantFinding{{"write", doctor.OK, "passed", ""}},
		},
		"no region": {
			variables: variables{"AWS_REGION": ""},
			status:    1,
			want:      []wantFinding{{"region", doctor.Problem, "no region", "--region"}, {"credentials", doctor.NotChecked, "", ""}},
		},
		"no such region": {
			variables: variables{"AWS_REGION": "Ireland"},
			status:    1,
			want:      []wantFinding{{"region", doctor.Problem, `"Ireland" is not a region`, "eu-west-1"}},
		},
		"zone for region": {
			variables: variables{"AWS_REGION": "eu-west-1b"},
			status:    1,
			want:      []wantFinding{{"region", doctor.Problem, "availability zone", "eu-west-1"}},
		},
		"other region": {
			variables: variables{"AWS_REGION": "us-east-1"},
			status:    1,
			want:      []wantFinding{{"stream", doctor.Problem, "credentials", "renew"}},
		},
		"no credentials": {
			variables: variables{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
			status:    1,
			want:      []wantFinding{{"credentials", doctor.Problem, "no credentials", "AWS_PROFILE"}},
		},
		"no such stream": {
			variables: variables{prefix + "STREAM": "order"},
			status:    1,
			want: []wantFinding{
				{
					"stream",
					doctor.Problem,
					"there is no stream order in eu-west-1",
					"aws kinesis create-stream --region eu-west-1 --stream-name order",
				},
				{"write", doctor.NotChecked, "", ""},
			},
		},
		"bad stream": {
			variables: variables{prefix + "STREAM": "my stream"},
			status:    1,
			want: []wantFinding{
				{"settings", doctor.Problem, "STREAM", "the name of a stream"},
				{"stream", doctor.NotChecked, "", ""},
			},
		},
		"bad setting": {
			variables: variables{prefix + "MAX_DELAY": "10"},
			status:    1,
			want: []wantFinding{
				{"settings", doctor.Problem, `MAX_DELAY is "10"; the extension stays idle`, "500ms"},
				{"write", doctor.OK, "", ""},
			},
		},
		"bad, to fail": {
			variables: variables{prefix + "FORMAT": "xml", prefix + "ON_ERROR": "fail"},
			status:    1,
			want:      []wantFinding{{"settings", doctor.Problem, "init fails", "ndjson"}},
		},
		"unknown setting": {
			variables: variables{prefix + "STREEM": "x"},
			want:      []wantFinding{{"settings", doctor.Warning, "STREEM", "STREAM"}},
		},
		"disabled": {
			variables: variables{prefix + "ENABLED": "false"},
			want:      []wantFinding{{"settings", doctor.Warning, "nothing is delivered", "true"}},
		},
		"record limit": {
			variables: variables{prefix + "MAX_RECORD_BYTES": "1048577"},
			status:    1,
			want: []wantFinding{
				{
					"record size",
					doctor.Problem,
					"the stream takes records of 1024 KiB",
					"update-max-record-size --region eu-west-1 --stream-arn arn:aws:kinesis:eu-west-1:123456789012:stream/orders " +
						"--max-record-size-in-ki-b 1025",
				},
			},
		},
		"one shard for all": {
			variables: variables{prefix + "PARTITION_KEY": "function"},
			want:      []wantFinding{{"capacity", doctor.Warning, "one shard", "PARTITION_KEY"}},
		},
		"no such host": {
			variables: variables{prefix + "ENDPOINT_URL": "http://kinesis.invalid"},
			status:    1,
			want: []wantFinding{
				{"endpoint", doctor.Problem, "kinesis.invalid does not resolve", "ENDPOINT_URL"},
				{"write", doctor.NotChecked, "", ""},
			},
		},
		"refused": {
			variables: variables{prefix + "ENDPOINT_URL": "http://" + closedPort},
			status:    1,
			want:      []wantFinding{{"endpoint", doctor.Problem, "connection refused", "ENDPOINT_URL"}},
		},
		"untrusted": {
			variables: variables{prefix + "ENDPOINT_URL": untrusted(t)},
			status:    1,
			want:      []wantFinding{{"endpoint", doctor.Problem, "is not trusted", "AWS_CA_BUNDLE"}},
		},
		"other's stream": {
			variables: variables{prefix + "STREAM": "arn:aws:kinesis:eu-west-1:210987654321:stream/orders"},
			status:    1,
			want: []wantFinding{
				{"stream", doctor.NotChecked, "may not describe", "kinesis:DescribeStreamSummary"},
				{"write", doctor.Problem, "not allowed", "put-resource-policy"},
			},
		},
		"role not assumable": {
			variables: variables{prefix + "ROLE_ARN": "arn:aws:iam::123456789012:role/writer"},
			status:    1,
			want:      []wantFinding{{"role", doctor.Problem, "cannot be assumed", "sts:AssumeRole"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := variables{
				"AWS_ENDPOINT_URL": fakeAWS(t, nil), "AWS_ENDPOINT_URL_KINESIS": startKinesis(t, kinesislocal.Options{}).URL(),
				prefix + "STREAM": "orders",
			}
			maps.Copy(all, test.variables)
			setEnviron(t, all)
			runDoctor(t, test.status, nil, test.want...)
		})
	}
}

func untrusted(t *testing.T) string {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// Each error of the dry run has its own fix.
func TestDoctorWrite(t *testing.T) {
	for code, test := range map[string]struct {
		status int
		want   wantFinding
	}{
		"AccessDeniedException": {
			status: 1,
			want: wantFinding{
				"",
				doctor.Problem,
				"not allowed",
				`{"Effect":"Allow","Action":"kinesis:PutRecords","Resource":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders"}`,
			},
		},
		"KMSAccessDeniedException": {
			status: 1,
			want:   wantFinding{"", doctor.Problem, "denied", "kms:GenerateDataKey"},
		},
		"KMSDisabledException": {
			status: 1,
			want:   wantFinding{"", doctor.Problem, "disabled", "aws kms enable-key"},
		},
		"KMSInvalidStateException": {
			status: 1,
			want: wantFinding{
				"",
				doctor.Problem,
				"not usable",
				"aws kms cancel-key-deletion --region eu-west-1 --key-id ARN-OF-THE-KEY",
			},
		},
		"KMSNotFoundException": {
			status: 1,
			want:   wantFinding{"", doctor.Problem, "does not exist", "start-stream-encryption"},
		},
		"KMSOptInRequired": {
			status: 1,
			want:   wantFinding{"", doctor.Problem, "no access to KMS", "subscribe"},
		},
		"KMSThrottlingException": {
			want: wantFinding{"", doctor.Warning, "KMS is throttling", "quota"},
		},
		"ProvisionedThroughputExceededException": {
			want: wantFinding{"", doctor.Warning, "throttling", "add shards"},
		},
		"ExpiredTokenException": {
			status: 1,
			want:   wantFinding{"", doctor.Problem, "not accepted", "renew"},
		},
		"UnknownOperationException": {
			status: 1,
			want:   wantFinding{"", doctor.Problem, "failed", "an endpoint of Kinesis?"},
		},
		"": {
			status: 4,
			want:   wantFinding{"", doctor.NotChecked, "no answer", "again"},
		},
	} {
		t.Run(code, func(t *testing.T) {
			rule := kinesislocal.Rule{ErrorType: code, Reset: code == ""}
			server := startKinesis(t, kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{rule}}})
			setEnviron(t, map[string]string{
				"AWS_ENDPOINT_URL": fakeAWS(t, nil), "AWS_ENDPOINT_URL_KINESIS": server.URL(), "KINESIS_TELEMETRY_STREAM": "orders",
			})
			test.want.check = "write"
			runDoctor(t, test.status, nil, test.want)
			if n := len(server.Records("orders")); n > 0 {
				t.Errorf("%d records were stored", n)
			}
		})
	}
}

// doctor distinguishes expired tokens, wrong secrets and unknown keys.
func TestDoctorCredentials(t *testing.T) {
	const key = "AKIATESTTESTTESTTEST"
	expired := kinesislocal.Options{
		Credentials:   map[string]string{key: "secret"},
		SessionTokens: map[string]kinesislocal.SessionToken{key: {Token: "token", Expires: time.Now().Add(-time.Hour)}},
	}
	for name, test := range map[string]struct {
		kinesis kinesislocal.Options
		sts     map[string]answer
		want    wantFinding
	}{
		"expired for Kinesis": {
			kinesis: expired,
			want:    wantFinding{"stream", doctor.Problem, "ExpiredTokenException", "renew"},
		},
		"wrong secret": {
			kinesis: kinesislocal.Options{Credentials: map[string]string{key: "another"}},
			want:    wantFinding{"stream", doctor.Problem, "InvalidSignatureException", "clock"},
		},
		"unknown key": {
			kinesis: kinesislocal.Options{Credentials: map[string]string{}},
			want:    wantFinding{"stream", doctor.Problem, "UnrecognizedClientException", "renew"},
		},
		"expired for STS": {
			kinesis: kinesislocal.Options{},
			sts:     map[string]answer{"GetCallerIdentity": xmlError("ExpiredToken", "The security token has expired")},
			want:    wantFinding{"credentials", doctor.Problem, "ExpiredToken", "aws sso login"},
		},
		"not an answer of STS": {
			kinesis: kinesislocal.Options{},
			sts:     map[string]answer{"GetCallerIdentity": {404, "<html>"}},
			want:    wantFinding{"credentials", doctor.NotChecked, "STS did not identify them", "AWS_ENDPOINT_URL_STS"},
		},
		"STS takes them, alone": {
			kinesis: expired,
			want:    wantFinding{"credentials", doctor.OK, "user/me", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			setEnviron(t, map[string]string{
				"AWS_ENDPOINT_URL": fakeAWS(t, test.sts), "AWS_ENDPOINT_URL_KINESIS": startKinesis(t, test.kinesis).URL(),
				"KINESIS_TELEMETRY_STREAM": "orders", "AWS_SESSION_TOKEN": "token",
			})
			status := 1
			if test.want.status == doctor.NotChecked {
				status = 0
			}
			runDoctor(t, status, nil, test.want)
		})
	}
}

// Permission to write is enough: doctor continues without the stream's description.
func TestDoctorMayOnlyWrite(t *testing.T) {
	server := startKinesis(t, kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{
		{Operation: "DescribeStreamSummary", ErrorType: "AccessDeniedException"},
	}}})
	setEnviron(t, map[string]string{
		"AWS_ENDPOINT_URL":         fakeAWS(t, nil),
		"AWS_ENDPOINT_URL_KINESIS": server.URL(),
		"KINESIS_TELEMETRY_STREAM": "orders",
	})
	runDoctor(t, 0, nil, wantFinding{"stream", doctor.NotChecked, "may not describe", "kinesis:DescribeStreamSummary"},
		wantFinding{"write", doctor.OK, "passed", ""})
}

// doctor reports states and modes of streams that no emulator has.
func TestDoctorStream(t *testing.T) {
	summary := func(members string) answer {
		return answer{
			200,
			`{"StreamDescriptionSummary":{"StreamName":"orders",` +
				`"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders",` + members + `}}`,
		}
	}
	key := func(id string) answer {
		return summary(`"StreamStatus":"ACTIVE","EncryptionType":"KMS","KeyId":"` + id + `"`)
	}
	for name, test := range map[string]struct {
		describe answer
		status   int
		want     wantFinding
	}{
		"on-demand": {
			describe: summary(`"StreamStatus":"ACTIVE","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"OpenShardCount":4`),
			want:     wantFinding{"capacity", doctor.OK, "on-demand", ""},
		},
		"one shard": {
			describe: summary(`"StreamStatus":"UPDATING","OpenShardCount":1`),
			want:     wantFinding{"capacity", doctor.OK, "1 shard takes", ""},
		},
		"creating": {
			describe: summary(`"StreamStatus":"CREATING"`),
			want:     wantFinding{"stream", doctor.Warning, "CREATING", "aws kinesis wait stream-exists"},
		},
		"deleting": {
			describe: summary(`"StreamStatus":"DELETING"`),
			status:   1,
			want:     wantFinding{"stream", doctor.Problem, "DELETING", "create-stream"},
		},
		"no limit reported": {
			describe: summary(`"StreamStatus":"ACTIVE"`),
			want:     wantFinding{"record size", doctor.NotChecked, "does not report", "1024 KiB"},
		},
		"managed key": {
			describe: key("alias/aws/kinesis"),
			want:     wantFinding{"encryption", doctor.OK, "managed key", ""},
		},
		"customer's key": {
			describe: key("11111111-2222-3333-4444-555555555555"),
			want: wantFinding{
				"encryption",
				doctor.NotChecked,
				"customer's key",
				`"kms:GenerateDataKey","Resource":"arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"`,
			},
		},
		"alias": {
			describe: key("alias/orders"),
			want:     wantFinding{"encryption", doctor.NotChecked, "alias/orders", "ARN-OF-THE-KEY"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			setEnviron(t, map[string]string{"KINESIS_TELEMETRY_STREAM": "orders", "AWS_ENDPOINT_URL": fakeAWS(t, map[string]answer{
				"DescribeStreamSummary": test.describe,
				"PutRecords":            {200, `{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"shardId-000000000000"}]}`},
			})})
			runDoctor(t, test.status, nil, test.want,
				wantFinding{
					"write",
					doctor.Warning,
					"does not support dry runs: it stored 1 record with the partition key ktel-doctor-dry-run",
					"skip",
				})
		})
	}
}

// doctor warns of the format kpl on a stream that distributes records itself: the KCL drops aggregated records there.
func TestDoctorFormat(t *testing.T) {
	for format, status := range map[string]int{"kpl": 1, "ndjson": 0} {
		url := fakeAWS(t, map[string]answer{
			"DescribeStreamSummary": {200, `{"StreamDescriptionSummary":{"StreamStatus":"ACTIVE",` +
				`"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders",` +
				`"StreamModeDetails":{"StreamMode":"ON_DEMAND"},"RecordDistributionStrategy":"AUTO"}}`},
			"PutRecords": jsonError("DryRunOperationException", "would have succeeded"),
		})
		setEnviron(t, map[string]string{
			"KINESIS_TELEMETRY_STREAM": "orders", "KINESIS_TELEMETRY_FORMAT": format, "AWS_ENDPOINT_URL": url,
		})
		want := []wantFinding{{"write", doctor.OK, "", ""}}
		if status > 0 {
			want = append(want, wantFinding{"format", doctor.Problem, "AUTO", "FORMAT=kpl"})
		}
		runDoctor(t, status, nil, want...)
	}
}

// A stream of another account cannot be encrypted with that account's managed key.
func TestDoctorManagedKeyOfAnother(t *testing.T) {
	const arn = "arn:aws:kinesis:eu-west-1:210987654321:stream/orders"
	setEnviron(t, map[string]string{"KINESIS_TELEMETRY_STREAM": arn, "AWS_ENDPOINT_URL": fakeAWS(t, map[string]answer{
		"DescribeStreamSummary": {
			200,
			`{"StreamDescriptionSummary":{"StreamARN":"` + arn + `","StreamStatus":"ACTIVE","EncryptionType":"KMS","KeyId":"alias/aws/kinesis"}}`,
		},
		"PutRecords": jsonError("DryRunOperationException", "would have succeeded"),
	})})
	runDoctor(t, 1, nil, wantFinding{"encryption", doctor.Problem, "no other account can use", "start-stream-encryption"}, wantFinding{
		"write",
		doctor.OK,
		"",
		"",
	})
}

// With ROLE_ARN, doctor writes with the credentials of that role, to a stream of that role's account.
func TestDoctorAssumesTheRole(t *testing.T) {
	const other, key = "210987654321", "ASIATHEROLETHEROLETH"
	server := startKinesis(t, kinesislocal.Options{
		AccountID: other, Credentials: map[string]string{key: "of the role"},
		SessionTokens: map[string]kinesislocal.SessionToken{key: {Token: "token"}},
	})
	assumed := answer{200, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>` + key +
		`</AccessKeyId><SecretAccessKey>of the role</SecretAccessKey><SessionToken>token</SessionToken>` +
		`<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`}
	sts := fakeAWS(t, map[string]answer{
		"AssumeRole kinesis-telemetry-extension ": assumed, // the default session name
		"AssumeRole reporting between/us":         assumed,
		"AssumeRole":                              xmlError("AccessDenied", "not authorized to perform: sts:AssumeRole"),
	})
	for _, stream := range []string{"orders", "arn:aws:kinesis:eu-west-1:" + other + ":stream/orders"} {
		setEnviron(t, map[string]string{
			"AWS_ENDPOINT_URL": sts, "AWS_ENDPOINT_URL_KINESIS": server.URL(),
			"KINESIS_TELEMETRY_STREAM": stream, "KINESIS_TELEMETRY_ROLE_ARN": "arn:aws:iam::" + other + ":role/writer",
		})
		runDoctor(t, 0, nil, wantFinding{"role", doctor.OK, "role/writer is assumed", ""}, wantFinding{"write", doctor.OK, "passed", ""})
	}
	// A denied write concerns the role's own account, so the fix does not mention a resource policy.
	server.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{{ErrorType: "AccessDeniedException"}}})
	_, stdout, _ := runKtel(t, "doctor")
	if !strings.Contains(stdout, "kinesis:PutRecords") || strings.Contains(stdout, "put-resource-policy") {
		t.Error(stdout)
	}
	// A trust policy may require an external id and a session name.
	server.SetFaults(nil)
	const prefix = "KINESIS_TELEMETRY_ROLE_"
	t.Setenv(prefix+"EXTERNAL_ID", "between/us")
	runDoctor(t, 1, nil, wantFinding{"role", doctor.Problem, "cannot be assumed", "under the sts:ExternalId of " + prefix + "EXTERNAL_ID"})
	t.Setenv(prefix+"SESSION_NAME", "reporting")
	runDoctor(t, 0, nil, wantFinding{"role", doctor.OK, "role/writer is assumed", ""}, wantFinding{"write", doctor.OK, "passed", ""})
	t.Setenv(prefix+"EXTERNAL_ID", "")
	runDoctor(t, 1, nil, wantFinding{"role", doctor.Problem, "cannot be assumed", "set " + prefix + "EXTERNAL_ID"})
}

// An endpoint with a private CA works if AWS_CA_BUNDLE names the CA.
func TestDoctorCABundle(t *testing.T) {
	kinesis := kinesislocal.New(kinesislocal.Options{Region: testRegion})
	defer kinesis.Close()
	if err := kinesis.CreateStream("orders", 1); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(kinesis)
	defer server.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	setEnviron(t, map[string]string{
		"AWS_ENDPOINT_URL": fakeAWS(t, nil), "AWS_CA_BUNDLE": bundle,
		"KINESIS_TELEMETRY_STREAM": "orders", "KINESIS_TELEMETRY_ENDPOINT_URL": server.URL,
	})
	runDoctor(t, 0, nil, wantFinding{"endpoint", doctor.OK, "answers in", ""}, wantFinding{"write", doctor.OK, "passed", ""})
}

// The fix names the key if the stream's description does.
func TestDoctorDisabledKey(t *testing.T) {
	setEnviron(t, map[string]string{"KINESIS_TELEMETRY_STREAM": "orders", "AWS_ENDPOINT_URL": fakeAWS(t, map[string]answer{
		"DescribeStreamSummary": {
			200,
			`{"StreamDescriptionSummary":{"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders","StreamStatus":"ACTIVE",` +
				`"EncryptionType":"KMS","KeyId":"11111111-2222"}}`,
		},
		"PutRecords": jsonError("KMSDisabledException", "it is disabled"),
	})})
	runDoctor(t, 1, nil, wantFinding{
		"write",
		doctor.Problem,
		"disabled",
		"aws kms enable-key --region eu-west-1 --key-id arn:aws:kms:eu-west-1:123456789012:key/11111111-2222",
	})
}

// The report for a person has a line for each finding, one for each fix, and the counts.
func TestDoctorText(t *testing.T) {
	var b bytes.Buffer
	report := &doctor.Report{Findings: []doctor.Finding{
		{Check: "region", Status: doctor.OK, Seen: "eu-west-1"},
		{Check: "stream", Status: doctor.Problem, Seen: "there is none\x1b[31m", Fix: "aws kinesis create-stream"},
		{Check: "network", Status: doctor.NotChecked, Seen: "in a VPC", Fix: "look"},
		{Check: "write", Status: doctor.Warning, Seen: "stored", Fix: "skip it"},
	}}
	if err := writeReport(&b, newPalette(false), report, 0); err != nil {
		t.Fatal(err)
	}
	const want = `
  region       ok           eu-west-1
  stream       problem      there is none\x1b[31m
                            → aws kinesis create-stream
  network      not checked  in a VPC
                            → look
  write        warning      stored
                            → skip it

  1 problem, 1 warning, 1 not checked.
`
	if got := b.String(); got != want[1:] {
		t.Errorf("%s", got)
	}
	b.Reset()
	err := writeReport(&b, newPalette(true), &doctor.Report{Findings: report.Findings[:1]}, 60)
	if err != nil || !strings.Contains(b.String(), "\x1b[") {
		t.Errorf("%q, %v", b.String(), err)
	}
	if !strings.Contains(b.String(), "No problems found.") {
		t.Error(b.String())
	}
}
