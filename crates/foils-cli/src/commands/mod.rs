//! A file a command.

pub mod conformance;
pub mod convert;
pub mod data;
pub mod device;
pub mod embed;
pub mod eval;
pub mod mine;
pub mod papers;
pub mod report;
pub mod reproduce;
pub mod score;
pub mod train;
pub mod tune;
