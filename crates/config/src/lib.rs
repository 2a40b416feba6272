//! The configuration language: lexer, tree, schema, renderers, typed model, diff.
