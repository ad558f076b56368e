//! Function name → library call. A golden file's functions live in the module of its name and are listed here.

use super::{Case, Outputs};
use foils::Result;
use std::collections::HashMap;

/// Unpacks a case, calls the library, packs what it returned.
pub type Function = fn(&Case) -> Result<Outputs>;

/// Every known function by name.
pub fn functions() -> HashMap<&'static str, Function> {
    let tables: [&[(&'static str, Function)]; _] = [
        super::amcl::FUNCTIONS,
        super::baselines_contrastive::FUNCTIONS,
        super::baselines_mining::FUNCTIONS,
        super::cacr::FUNCTIONS,
        super::contrastive_behaviour::FUNCTIONS,
        super::dcl::FUNCTIONS,
        super::eci::FUNCTIONS,
        super::groco::FUNCTIONS,
        super::meco::FUNCTIONS,
        super::ranking_losses::FUNCTIONS,
        super::retrieval_metrics::FUNCTIONS,
        super::soft_infonce::FUNCTIONS,
        super::unpg::FUNCTIONS,
    ];
    tables.into_iter().flatten().copied().collect()
}
