# make layer builds the two zips of the Lambda layer. Builds of the same source give the same bytes.
# make ktel VERSION=v1.2.3 builds archives of ktel for each system, also reproducibly.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: all test layer ktel demo-function release lint clean

NAME := kinesis-telemetry-extension
OUT := build
REPRODUCIBLE := CGO_ENABLED=0 go build -trimpath -buildvcs=false
# nethttpomithttp2 saves half a megabyte: the Kinesis Client speaks only HTTP/1.1 (DESIGN.md).
# funcalign saves 60 KB on amd64, whose default is 32.
BUILD := $(REPRODUCIBLE) -tags nethttpomithttp2 -ldflags "-s -w -buildid= -funcalign=16"

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

ktel: $(foreach system,linux darwin,$(foreach machine,amd64 arm64,$(OUT)/ktel-$(system)-$(machine).tar.gz))
ktel: $(foreach machine,amd64 arm64,$(OUT)/ktel-windows-$(machine).zip)

GO_TARGET = GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*))
KTEL = $(GO_TARGET) $(REPRODUCIBLE) -ldflags "-s -w -buildid= -X 'main.release=$(VERSION)'"

# ktel runs functions on Linux and macOS only. There its binary contains the programs that it runs (cmd/ktel/embedded_release.go).
$(OUT)/ktel-%.tar.gz: FORCE
	mkdir -p $(OUT)/ktel/$*/programs
	$(GO_TARGET) $(BUILD) -o $(OUT)/ktel/$*/programs/ ./cmd/$(NAME) ./examples/hello
	printf '{"Replace":{"%s":"%s","%s":"%s"}}' $(foreach program,$(NAME) hello,\
		"$(CURDIR)/cmd/ktel/programs/$(program)" "$(abspath $(OUT))/ktel/$*/programs/$(program)") >$(OUT)/ktel/$*/overlay.json
	$(KTEL) -tags release -overlay $(OUT)/ktel/$*/overlay.json -o $(OUT)/ktel/$*/ktel ./cmd/ktel
	go run ./internal/ktelarchive $@ $(OUT)/ktel/$*/ktel LICENSE

$(OUT)/ktel-%.zip: FORCE
	$(KTEL) -o $(OUT)/ktel/$*/ktel.exe ./cmd/ktel
	go run ./internal/ktelarchive $@ $(OUT)/ktel/$*/ktel.exe LICENSE

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
