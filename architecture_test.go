// Package architecture_test holds DESIGN.md to the code: its map of packages, its data path, the functions that it names.
package architecture_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "kinesis-telemetry-extension/"

// The map of DESIGN.md has one row for each package of this module. Its last column names each package of this module that the
// package imports, tests aside, and no other.
func TestMapOfPackages(t *testing.T) {
	want := map[string][]string{}
	for _, p := range packages(t, "./...") {
		imports := []string{}
		for _, imported := range p.Imports {
			if name, ours := strings.CutPrefix(imported, module); ours {
				imports = append(imports, name)
			}
		}
		slices.Sort(imports)
		want[strings.TrimPrefix(p.ImportPath, module)] = imports
	}
	delete(want, strings.TrimSuffix(module, "/")) // this test
	rows := map[string][]string{}
	code := regexp.MustCompile("`([^`]+)`")
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .* \\| (.*) \\|$").FindAllStringSubmatch(section(t, "Map"), -1) {
		imports := []string{}
		for _, name := range code.FindAllStringSubmatch(row[2], -1) {
			if _, inInternal := want["internal/"+name[1]]; inInternal {
				name[1] = "internal/" + name[1]
			}
			imports = append(imports, name[1])
		}
		slices.Sort(imports)
		rows[row[1]] = imports
	}
	for name, imports := range want {
		if row, ok := rows[name]; !ok {
			t.Errorf("DESIGN.md, Map: no row for %s, which imports %q", name, imports)
		} else if !slices.Equal(row, imports) {
			t.Errorf("DESIGN.md, Map: the row of %s names %q; the package imports %q", name, row, imports)
		}
	}
	for name := range rows {
		if _, ok := want[name]; !ok {
			t.Errorf("DESIGN.md, Map: there is no package %s", name)
		}
	}
}

// maxDataPath is how many lines of code a newcomer has to read to know what happens to an event.
const maxDataPath = 1500

// The functions that DESIGN.md's data path names exist, and are short enough to read in one sitting.
func TestDataPath(t *testing.T) {
	lines, functions := 0, map[string]bool{}
	for _, name := range regexp.MustCompile("`([a-z/]+\\.go):([A-Za-z]+)`").FindAllStringSubmatch(section(t, "Data path"), -1) {
		if functions[name[0]] {
			continue
		}
		functions[name[0]] = true
		file := name[1]
		if !strings.Contains(file, "/") {
			t.Errorf("%s: the data path must give the folder of each file", name[0])
			continue
		}
		n := linesOf(t, file)[name[2]]
		if n == 0 {
			t.Errorf("DESIGN.md names %s, which does not exist", name[0])
		}
		lines += n
	}
	t.Logf("%d functions, %d lines", len(functions), lines)
	if len(functions) < 20 || lines > maxDataPath {
		t.Errorf("the data path names %d functions of %d lines in all, want 20 or more of at most %d lines", len(functions), lines, maxDataPath)
	}
}

// Each function that DESIGN.md names as `file.go:function`, in any section, exists.
func TestNamedFunctions(t *testing.T) {
	files := map[string][]string{} // by base name
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, _ fs.DirEntry, err error) error {
		if path.Ext(name) == ".go" {
			files[path.Base(name)] = append(files[path.Base(name)], name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([A-Za-z_/]+\\.go):([A-Za-z]+)`").FindAllStringSubmatch(design(t), -1)
	for _, name := range named {
		found := slices.ContainsFunc(files[path.Base(name[1])], func(file string) bool {
			return strings.HasSuffix("/"+file, "/"+name[1]) && linesOf(t, file)[name[2]] > 0
		})
		if !found {
			t.Errorf("DESIGN.md names %s, which does not exist", name[0])
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d functions found in DESIGN.md", len(named))
	}
}

// Dependencies point one way, and the extension links nothing of the tools around it.
func TestDependencyDirection(t *testing.T) {
	type rule struct {
		of        string
		forbidden []string
	}
	for _, r := range []rule{
		{"cmd/kinesis-telemetry-extension", []string{
			module + "internal/sandbox", module + "internal/kinesislocal", module + "internal/audit", module + "internal/session",
			module + "cmd/ktel",
			"github.com/aws/", "github.com/spf13/", "github.com/fatih/", "log/slog", "os/exec", "html/template", "text/template", "testing",
		}},
		{"record", []string{module + "internal", "github.com/aws/", "github.com/spf13/", "github.com/fatih/", "golang.org/", "net"}},
		{"internal/lambdaapi", []string{module + "internal/", module + "record", "github.com/"}},
		{"internal/listener", []string{module + "internal/kinesis", module + "internal/dispatcher", module + "internal/extension"}},
		{"internal/kinesis", []string{
			module + "internal/dispatcher", module + "internal/flush", module + "internal/listener", module + "record",
		}},
		{"internal/flush", []string{module + "internal/", module + "record", "context", "os", "net", "math/rand", "crypto"}},
		{"internal/dispatcher", []string{module + "internal/listener", module + "internal/extension", module + "internal/lambdaapi"}},
		{"internal/config", []string{module + "internal/extension", module + "internal/listener"}},
		{"internal/sandbox", []string{module + "internal/extension", module + "internal/lambdaapi", module + "internal/kinesislocal"}},
		{"internal/session", []string{module + "internal/", module + "cmd", "github.com/spf13/", "github.com/fatih/"}},
		// These take 25 seconds of CPU to compile, and the first 'go run ./cmd/ktel demo' would wait for them. ktel calls internal/awsapi.
		{"cmd/ktel", []string{
			"github.com/aws/aws-sdk-go-v2/service/iam", "github.com/aws/aws-sdk-go-v2/service/ssm",
			"github.com/aws/aws-sdk-go-v2/service/kms", "github.com/aws/aws-sdk-go-v2/service/lambda",
		}},
		{"internal/kinesislocal", []string{module + "internal/kinesis/", module + "internal/extension", module + "internal/sandbox"}},
	} {
		dependencies := packages(t, "-deps", module+r.of)
		for _, p := range dependencies {
			for _, forbidden := range r.forbidden {
				same := p.ImportPath == strings.TrimSuffix(forbidden, "/")
				below := strings.HasPrefix(p.ImportPath, strings.TrimSuffix(forbidden, "/")+"/")
				if p.ImportPath != module+r.of && (same || below) {
					t.Errorf("%s depends on %s", r.of, p.ImportPath)
				}
			}
		}
		if len(dependencies) < 10 {
			t.Errorf("%s: only %d packages seen", r.of, len(dependencies))
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// packages are what `go list` prints for its arguments.
func packages(t *testing.T, args ...string) (all []goPackage) {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var p goPackage
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func design(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is the text of a second-level section of DESIGN.md.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, text, found := strings.Cut(design(t), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("DESIGN.md has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// linesOf counts the lines of each function of a file. Its doc comment counts: it has to be read, too.
func linesOf(t *testing.T, file string) map[string]int {
	t.Helper()
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, filepath.FromSlash(file), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	for _, declaration := range parsed.Decls {
		if f, ok := declaration.(*ast.FuncDecl); ok {
			first := f.Pos()
			if f.Doc != nil {
				first = f.Doc.Pos()
			}
			lines[f.Name.Name] += set.Position(f.End()).Line - set.Position(first).Line + 1
		}
	}
	return lines
}
