// Realistic is a Lambda function that logs ten lines of JSON, about 300 bytes each, like a shop: a few messages with varying words, ids
// and numbers. The cost of telemetry is measured with it, because identical lines would compress too well.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

const lines = 10

var (
	levels   = []string{"INFO", "INFO", "INFO", "DEBUG", "WARN"}
	messages = []string{
		"order received", "payment authorized", "inventory reserved", "cache miss, asking upstream", "customer basket updated", "label printed",
	}
	words = strings.Fields(`accepted address after attempt available balance basket because before billing blocked cached capacity carrier
		changed checkout closed coupon created currency customer declined delayed deleted delivered discount duplicate
		empty expired express failed fetched gateway gift invoice items label limit merged missing moved network
		notified opened packed partial payment pending pickup price primary quantity queued rate refund region
		rejected released reserved retry returned route scanned seller session shipped skipped standard started stock
		stored supplier tax timeout total tracking transfer updated upstream validated vendor version waiting
		warehouse weight window`)
)

func main() {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same lines on each run; nothing secret
	lambda.Start(func(ctx context.Context) error {
		request := ""
		if invocation, ok := lambdacontext.FromContext(ctx); ok {
			request = invocation.AwsRequestID
		}
		trace := fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64())
		for n := range lines {
			var note strings.Builder
			for range 6 + random.IntN(6) {
				note.WriteString(words[random.IntN(len(words))] + " ")
				if random.IntN(6) == 0 {
					fmt.Fprintf(&note, "%x ", random.Uint32())
				}
			}
			line := fmt.Sprintf(`{"level":"%s","message":"%s","requestId":"%s","traceId":"%s","orderId":"%08x","customer":%d,`,
				levels[random.IntN(len(levels))], messages[random.IntN(len(messages))], request, trace, random.Uint32(), random.IntN(1e6))
			fmt.Printf(`%s"step":%d,"latencyMs":%.3f,"note":"%s"}`+"\n", line, n, random.Float64()*900, note.String())
		}
		return nil
	})
}
