package kinesislocal

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// plain converts a value to the Go value that encoding/json decodes.
func plain(v value) any {
	switch v.kind {
	case kindNull:
		return nil
	case kindBool:
		return v.raw[0] == 't'
	case kindNumber:
		return json.Number(v.raw)
	case kindString:
		return string(bytes.ToValidUTF8(v.unescaped(), nil))
	case kindList:
		list := []any{}
		for _, item := range v.items {
			list = append(list, plain(item))
		}
		return list
	case kindObject:
		object := map[string]any{}
		for _, m := range v.members {
			object[m.name] = plain(m.value)
		}
		return object
	}
	panic("unknown kind")
}

// The parser accepts the same texts as encoding/json, and reads the same values.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"StreamName":"s","Records":[{"Data":"eA==","PartitionKey":"k"},null]}`,
		` [1, -2.5e+3 ,true,false,null,"\u00e4\ud83d\ude00\n\/"] `,
		`{"a":{"b":[[],{}]},"a":1}`,
		`"\`, `"\u12`, `{"a":1,}`, `[1,]`, `01`, `-`, `1e`, `tru`, "\x00", "1\x00", "\"\x1f\"", `{"a" 1}`, `{1:2}`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, ok := parseJSON(bytes.Clone(b))
		if ok != json.Valid(b) {
			t.Fatalf("%q: accepted %v, by encoding/json %v", b, ok, !ok)
		}
		if !ok || bytes.ContainsRune(b, '\ufffd') || !bytes.Equal(b, bytes.ToValidUTF8(b, nil)) {
			return // invalid UTF-8 differs by intent: it is rejected later
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := plain(v); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: read %#v, encoding/json %#v", b, got, want)
		}
	})
}
