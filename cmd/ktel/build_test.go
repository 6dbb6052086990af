package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func goList(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return string(output)
}

// The build of the demo uses the packages that 'go run ./cmd/ktel demo' has compiled, and compiles none again.
func TestBuildSharesItsCache(t *testing.T) {
	t.Parallel()
	args := []string{"-export", "-f", "{{.Export}}", "net/http", "crypto/tls"}
	flags, env := ownSettings()
	plain, own := goList(t, nil, args...), goList(t, env, append(flags, args...)...)
	if plain != own || len(strings.Fields(plain)) != 2 {
		t.Errorf("go run compiles %s, ktel's build takes %s", plain, own)
	}
}
