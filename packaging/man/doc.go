// Package man writes manual pages in roff's man(7) macros, from Markdown and
// from commented TOML, so that the pages say what the documents say.
//
// It knows the Markdown that docs/ is written in and no more: headings,
// paragraphs, lists, tables, fenced and indented code, bold, code and links. A
// table becomes a list of its first cells, since prose in narrow columns can't
// be read in a terminal. It reads no file but through its arguments, and the
// same input gives the same bytes: pages carry no date.
package man
