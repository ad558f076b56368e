//! One study a paper: what it says, what is checked, on which data, and a verdict that is computed. Also the
//! [`conformance`] registry, which holds the library to golden vectors.

mod amcl;
pub mod conformance;
mod dcl;
mod eci;
pub mod images;
mod meco;
pub mod papers;
pub mod plot;
pub mod report;
mod soft_infonce;
pub mod study;
