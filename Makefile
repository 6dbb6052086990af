# make layer builds the two zips of the Lambda layer. Builds of the same source give the same bytes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: all test layer demo-function release lint clean

NAME := kinesis-telemetry-extension
OUT := build
# nethttpomithttp2 saves half a megabyte: the Kinesis Client speaks only HTTP/1.1 (DESIGN.md).
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags nethttpomithttp2 -ldflags "-s -w -buildid="

all: test layer

test:
	go test ./...

layer: $(OUT)/$(NAME)-x86_64.zip $(OUT)/$(NAME)-arm64.zip

# The zips have Lambda's names of the architectures, the folders have Go's.
$(OUT)/$(NAME)-x86_64.zip: $(OUT)/amd64/extensions/$(NAME)
$(OUT)/$(NAME)-arm64.zip: $(OUT)/arm64/extensions/$(NAME)
$(OUT)/$(NAME)-x86_64.zip $(OUT)/$(NAME)-arm64.zip:
	go run ./internal/layerzip $< $@

$(OUT)/%/extensions/$(NAME): FORCE
	GOOS=linux GOARCH=$* $(BUILD) -o $@ ./cmd/$(NAME)

# The code of the demo function in deploy/cdk.
demo-function:
	GOOS=linux GOARCH=arm64 $(BUILD) -tags nethttpomithttp2,lambda.norpc -o $(OUT)/demo/bootstrap ./examples/hello

# make release VERSION=1.2.3 writes the zips, checksums, SBOMs and notes to dist.
release:
	.ci/release "$(VERSION)"

lint:
	golangci-lint run ./...

clean:
	rm -rf $(OUT) dist

FORCE:
