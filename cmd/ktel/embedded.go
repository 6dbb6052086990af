//go:build !release || !unix

package main

import "embed"

// embedded is empty: this ktel builds the extension and the demo's function from a checkout.
var embedded embed.FS
