// Awkward is a function that prints lines which readers easily misread, and then as many plain lines as the number in its event.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
)

var awkward = []string{
	``,
	` spaces before and behind `,
	`"quotes" \ backslashes \n \u0041 / and an end in a backslash \`,
	"tab\tbell\abackspace\bform feed\fescape\x1b[31m NUL\x00 delete\x7f",
	"a line of Windows\r",
	"é 漢字 🙂 e\u0301, separators \u2028 and \u2029, a BOM \ufeff, not a character \uffff, the last one \U0010ffff",
	"no UTF-8: \xff\xfe \xc3( \xed\xa0\x80",
	`<script>&amp;</script>`,
	"\x1f\x8b\x08 gzip, \x28\xb5\x2f\xfd zstd, \xf3\x89\x9a\xc2 KPL",
	`REPORT RequestId: 00000000-0000-0000-0000-000000000000	Duration: 1 ms	Billed Duration: 1 ms`,
	`{"messageType":"DATA_MESSAGE","owner":"o","logGroup":"g","logStream":"s","subscriptionFilters":["f"],"logEvents":[]}`,
	`{"time":"2022-10-12T00:00:00.000Z","type":"platform.report","record":{"seq":1},"seq":2,"source":{"instance":"0"}}`,
	`{"half":`,
	`[1,2]`,
	`{"level":"INFO","message":"objects","Größe":1.50,"large":12345678901234567890,"exponent":1E+2,` +
		`"nested":{"a":[{"b":null},[],{}]},"A":1,"a":2}`,
	`{ "message" : "white\tspace\n\"quoted\" \/ \u00e9 \ud83d\ude42 \u2028 \u0000" , "empty" : "" }`,
	`{"level":"ERROR","message":"é 漢字 🙂","stackTrace":["a","b"]}`,
	strings.Repeat("long, é ", 8_000),
	`{"message":"` + strings.Repeat(`long, \"é\" `, 5_000) + `"}`,
}

func main() {
	lambda.Start(func(lines int) (string, error) {
		out := bufio.NewWriter(os.Stdout)
		for _, line := range awkward {
			fmt.Fprintln(out, line)
		}
		for n := range lines {
			fmt.Fprintf(out, "plain line %d\n", n)
		}
		return "printed", out.Flush()
	})
}
