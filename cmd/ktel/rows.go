package main

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

const labelColumns = 13

// rows is a text of labels, each followed by cells. Cells that do not fit into the columns go into the next line.
// 0 columns are no limit.
type rows struct {
	strings.Builder
	colors  palette
	columns int
}

func (r *rows) row(label string, cells ...string) {
	const between = "   "
	line := "  " + r.colors.dim(pad(label, labelColumns))
	for i, cell := range cells {
		separator := ""
		if i > 0 {
			separator = between
		}
		if r.columns > 0 && i > 0 && ansi.StringWidth(line+separator+cell) > r.columns {
			r.WriteString(line + "\n")
			line, separator = strings.Repeat(" ", 2+labelColumns), ""
		}
		line += separator + fold(cell, r.columns, 2+labelColumns, 2+labelColumns)
	}
	r.WriteString(line + "\n")
}
