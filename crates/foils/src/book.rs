//! The Rust code of the README and of the book compiles and runs. A page with Rust in it gets a line here.

#[doc = include_str!("../../../README.md")]
struct Readme;

#[doc = include_str!("../../../docs/src/tutorial/first-tune.md")]
struct FirstTune;

#[doc = include_str!("../../../docs/src/reference/library.md")]
struct Library;
