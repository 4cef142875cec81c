// Package output prints answers for people and for programs.
package output

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Formats that an answer can be printed in.
var Formats = []string{"table", "json", "yaml", "csv", "text", "column"}

// Check tells what is wrong with the name of a format.
func Check(format string) error {
	if !slices.Contains(Formats, format) {
		return fmt.Errorf("output %q is none of %s", format, strings.Join(Formats, ", "))
	}
	return nil
}

// usual are the columns of a table that nobody chose columns for, those of them that the rows have; at most mostUsual.
var usual = []string{
	"id", "name", "displayname", "username", "state", "status", "allocationstate", "resourcestate", "type", "ipaddress",
	"publicip", "publicport", "privateport", "protocol", "cidr", "cidrlist", "zonename", "hostname", "account", "domain", "value",
	"size", "cpunumber", "memory", "created", "level", "description",
}

const mostUsual = 8

// Print writes an answer. columns choose and order the fields of rows; none are all of them, but for a table.
func Print(w io.Writer, format string, answer map[string]any, columns []string) error {
	switch format {
	case "json", "yaml":
		if len(columns) > 0 {
			answer = filtered(answer, columns)
		}
		if format == "json" {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(answer)
		}
		e := yaml.NewEncoder(w)
		e.SetIndent(2)
		if err := e.Encode(plain(answer)); err != nil {
			return err
		}
		return e.Close()
	}
	rows := Rows(answer)
	if len(columns) == 0 {
		columns = fields(rows, format == "table" || format == "column")
	}
	switch format {
	case "csv":
		return comma(w, rows, columns)
	case "text":
		return text(w, rows, columns)
	default:
		return table(w, rows, columns)
	}
}

// Rows are the objects in an answer: those of its list, or the one that it has, or itself.
func Rows(answer map[string]any) []map[string]any {
	for k, v := range answer {
		list, ok := v.([]any)
		if !ok || k == "uuidList" {
			continue
		}
		_, counted := answer["count"]
		if !counted && len(answer) > 1 {
			continue // a field of one object
		}
		rows := make([]map[string]any, 0, len(list))
		for _, x := range list {
			if m, ok := x.(map[string]any); ok {
				rows = append(rows, m)
			}
		}
		return rows
	}
	if len(answer) == 1 {
		for _, v := range answer {
			if m, ok := v.(map[string]any); ok {
				return []map[string]any{m}
			}
		}
	}
	if len(answer) == 0 || len(answer) == 1 && answer["count"] != nil {
		return nil
	}
	return []map[string]any{answer}
}

// fields are the names that rows have, sorted; of a table the usual ones, where there are two of them.
func fields(rows []map[string]any, few bool) []string {
	has := map[string]bool{}
	for _, r := range rows {
		for k := range r {
			has[k] = true
		}
	}
	all := slices.Sorted(maps.Keys(has))
	if !few || len(all) <= mostUsual {
		return all
	}
	var out []string
	for _, k := range usual {
		if has[k] && len(out) < mostUsual {
			out = append(out, k)
		}
	}
	if len(out) < 2 {
		return all[:mostUsual]
	}
	return out
}

// filtered keeps the chosen fields of rows.
func filtered(answer map[string]any, columns []string) map[string]any {
	out := map[string]any{}
	for k, v := range answer {
		switch x := v.(type) {
		case []any:
			var rows []any
			for _, r := range x {
				if m, ok := r.(map[string]any); ok {
					rows = append(rows, pick(m, columns))
				}
			}
			out[k] = rows
		case map[string]any:
			out[k] = pick(x, columns)
		default:
			if k == "count" || slices.Contains(columns, k) {
				out[k] = v
			}
		}
	}
	return out
}

func pick(m map[string]any, columns []string) map[string]any {
	out := map[string]any{}
	for _, c := range columns {
		if v, ok := m[c]; ok {
			out[c] = v
		}
	}
	return out
}

// cell is a field as one line of text.
func cell(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f { // an answer must not steer the terminal
				return ' '
			}
			return r
		}, x)
	case json.Number, bool, float64, int:
		return fmt.Sprint(x)
	default:
		b, err := json.Marshal(x)
		if err != nil {
			return fmt.Sprint(x)
		}
		return string(b)
	}
}

func table(w io.Writer, rows []map[string]any, columns []string) error {
	width := make([]int, len(columns))
	for i, c := range columns {
		width[i] = utf8.RuneCountInString(c)
	}
	cells := make([][]string, len(rows))
	for n, r := range rows {
		cells[n] = make([]string, len(columns))
		for i, c := range columns {
			cells[n][i] = cell(r[c])
			width[i] = max(width[i], utf8.RuneCountInString(cells[n][i]))
		}
	}
	if len(columns) == 0 {
		return nil
	}
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = strings.ToUpper(c)
	}
	var b strings.Builder
	for _, line := range append([][]string{head}, cells...) {
		var l strings.Builder
		for i, c := range line {
			l.WriteString(c)
			l.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+2))
		}
		b.WriteString(strings.TrimRight(l.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func comma(w io.Writer, rows []map[string]any, columns []string) error {
	if len(columns) == 0 {
		return nil
	}
	c := csv.NewWriter(w)
	if err := c.Write(columns); err != nil {
		return err
	}
	for _, r := range rows {
		line := make([]string, len(columns))
		for i, name := range columns {
			line[i] = cell(r[name])
		}
		if err := c.Write(line); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

func text(w io.Writer, rows []map[string]any, columns []string) error {
	var b strings.Builder
	for n, r := range rows {
		if n > 0 {
			b.WriteByte('\n')
		}
		for _, c := range columns {
			if v, ok := r[c]; ok {
				fmt.Fprintf(&b, "%s = %s\n", c, cell(v))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plain turns numbers of JSON into what YAML writes as numbers.
func plain(v any) any {
	switch x := v.(type) {
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, _ := x.Float64()
		return f
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, v := range x {
			out[k] = plain(v)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, v := range x {
			out[i] = plain(v)
		}
		return out
	}
	return v
}
