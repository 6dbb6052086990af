# make layer: the two zips of the Lambda layer, the same bytes whenever they are built from the same source.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: all test layer demo-function release lint clean

NAME := kinesis-telemetry-extension
OUT := build
# nethttpomithttp2: the Kinesis Client speaks HTTP/1.1 alone (DESIGN.md); it saves half a megabyte.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags nethttpomithttp2 -ldflags "-s -w -buildid="

all: test layer

test:
	go test ./...

layer: $(OUT)/$(NAME)-x86_64.zip $(OUT)/$(NAME)-arm64.zip

# The zips are named after Lambda's architectures, the folders after Go's.
$(OUT)/$(NAME)-x86_64.zip: $(OUT)/amd64/extensions/$(NAME)
$(OUT)/$(NAME)-arm64.zip: $(OUT)/arm64/extensions/$(NAME)
$(OUT)/$(NAME)-x86_64.zip $(OUT)/$(NAME)-arm64.zip:
	go run ./internal/layerzip $< $@

$(OUT)/%/extensions/$(NAME): FORCE
	GOOS=linux GOARCH=$* $(BUILD) -o $@ ./cmd/$(NAME)

# The code of the demo function in deploy/cdk.
demo-function:
	GOOS=linux GOARCH=arm64 $(BUILD) -tags nethttpomithttp2,lambda.norpc -o $(OUT)/demo/bootstrap ./examples/hello

# make release VERSION=1.2.3: the zips, checksums, SBOMs and notes, in dist.
release:
	.ci/release "$(VERSION)"

lint:
	golangci-lint run ./...

clean:
	rm -rf $(OUT) dist

FORCE:
