// Package tables is the schema: one literal per table, saying the row type and its indexes.
//
// An index is a promise about how rows are asked for (and, when unique, about what cannot exist twice); add one when a
// caller would otherwise walk a whole table. Names of tables and indexes are written to disk or checked between
// versions: do not rename them.
package tables
