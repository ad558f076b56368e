//! Functions of `meco.json`, and `nce_loss`.

use super::autodiff::{constant, flat, leaf};
use super::{Array, Case, Function, Outputs};
use crate::meco::gaussian::{self, Method, Noise, Objective, Start};
use burn::tensor::Tensor;
use foils::losses::energy::{Ence, Meco, MlePlugin, Nce};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("meco_step", meco_step),
    ("mle_plugin_loss", mle_plugin_loss),
    ("nce_loss", nce_loss),
    ("ence_loss", ence_loss),
    ("gaussian_mean_trajectory", gaussian_mean_trajectory),
    ("gaussian_mean_population_loss", gaussian_mean_population_loss),
];

fn meco_step(case: &Case) -> Result<Outputs> {
    let beta = case.param("beta")?;
    let mut meco = Meco::new(beta)?;
    if beta < 1.0 {
        meco = meco.resume(scalar(case, "log_u_prev")?)?;
    }
    let outputs = gradients(case, |data, noise, _| meco.forward(data, noise, constant(case, "log_noise_noise")?))?;
    let log_u = meco.log_u().ok_or_else(|| Error::invalid("a step left no log_u"))?;
    Ok(outputs.with("log_u", Array::scalar(log_u)))
}

fn mle_plugin_loss(case: &Case) -> Result<Outputs> {
    let [data, noise, q] = ["log_model_data", "log_model_noise", "log_noise_noise"].map(|name| case.input(name));
    let (_, estimate) = MlePlugin.evaluate(&data?.data, &noise?.data, &q?.data)?;
    let outputs = gradients(case, |data, noise, _| MlePlugin.forward(data, noise, constant(case, "log_noise_noise")?))?;
    Ok(outputs
        .with("log_z_estimate", Array::scalar(estimate.log_z))
        .with("effective_sample_size", Array::scalar(estimate.effective_sample_size)))
}

fn nce_loss(case: &Case) -> Result<Outputs> {
    let nce = Nce::new(case.param("noise_ratio")?)?;
    gradients(case, |data, noise, log_z| {
        nce.forward(data, noise, constant(case, "log_noise_data")?, constant(case, "log_noise_noise")?, log_z)
    })
}

fn ence_loss(case: &Case) -> Result<Outputs> {
    gradients(case, |data, noise, log_z| {
        Ence.forward(data, noise, constant(case, "log_noise_data")?, constant(case, "log_noise_noise")?, log_z)
    })
}

/// The loss, and its gradients by log p̃ at data and noise and by log_z where the loss learns it.
fn gradients(case: &Case, loss: impl FnOnce(Tensor<1>, Tensor<1>, Tensor<1>) -> Result<Tensor<1>>) -> Result<Outputs> {
    let (data, noise) = (leaf::<1>(case, "log_model_data")?, leaf::<1>(case, "log_model_noise")?);
    let log_z = if case.inputs.contains_key("log_z") { scalar(case, "log_z")? } else { 0.0 };
    let log_z = flat(&Array::new([1], [log_z])).autodiff().require_grad();
    let loss = loss(data.clone(), noise.clone(), log_z.clone())?;
    let value = Array::scalar(loss.clone().inner().into_scalar());
    let found = loss.backward();
    let mut outputs = Outputs::new().with("loss", value);
    for (name, x) in [("grad_log_model_data", &data), ("grad_log_model_noise", &noise)] {
        let gradient = x.grad(&found).ok_or_else(|| Error::invalid(format!("the loss has no {name}")))?;
        outputs = outputs.with(name, super::autodiff::array(gradient));
    }
    if let Some(gradient) = log_z.grad(&found) {
        outputs = outputs.with("grad_log_z", Array::scalar(gradient.into_scalar()));
    }
    Ok(outputs)
}

fn gaussian_mean_trajectory(case: &Case) -> Result<Outputs> {
    let (data, noise) = (case.input("data")?, case.input("noise")?);
    let ([rows, n], [noise_rows, m]) = (data.dims()?, noise.dims()?);
    if rows != noise_rows {
        return Err(Error::invalid(format!("data has {rows} rows, noise has {noise_rows}")));
    }
    // Looked at even where the method does not use them: a setting that is wrong is wrong.
    let [beta, gamma] = ["beta", "gamma"].map(|name| case.param::<Option<f64>>(name));
    let (beta, gamma) = (beta?.unwrap_or(1.0), gamma?.unwrap_or(1.0));
    Meco::new(beta)?;
    foils::nn::GradientDescent::new(gamma)?;
    let method = match case.param::<String>("method")?.as_str() {
        "meco" => Method::Meco { beta: case.param("beta")?, gamma },
        "mle_plugin" => Method::MlePlugin { gamma },
        "nce" => Method::Nce,
        "ence_ngd" => Method::EnceNormalized,
        other => return Err(Error::invalid(format!("method `{other}` is none of meco, mle_plugin, nce, ence_ngd"))),
    };
    let log_z = match method {
        Method::Meco { .. } | Method::MlePlugin { .. } => case.param::<Option<f64>>("log_z_init")?.unwrap_or(0.0),
        _ => case.param("log_z_init")?,
    };
    let start = Start { theta: case.param("theta_init")?, log_z, learning_rate: case.param("learning_rate")? };
    let q = Noise::new(case.param("noise_mean")?, case.param("noise_std")?)?;
    let found = gaussian::trajectory(method, start, q, &data.data, &noise.data, (n, m))?;
    Ok(Outputs::new().with("theta", Array::new([rows], found.theta)).with("log_z", Array::new([rows], found.log_z)))
}

fn gaussian_mean_population_loss(case: &Case) -> Result<Outputs> {
    let objective = match case.param::<String>("objective")?.as_str() {
        "nll" => Objective::Nll,
        "nce" => Objective::Nce,
        "ence" => Objective::Ence,
        other => return Err(Error::invalid(format!("objective `{other}` is none of nll, nce, ence"))),
    };
    // The likelihood has neither.
    let of_contrast = |name: &str| if objective == Objective::Nll { Ok(0.0) } else { case.param(name) };
    let (log_z, noise_mean) = (of_contrast("log_z")?, of_contrast("noise_mean")?);
    let (loss, gradient) = gaussian::population_loss(objective, scalar(case, "theta")?, log_z, case.param("data_mean")?, noise_mean)?;
    Ok(Outputs::new().with("loss", Array::scalar(loss)).with("grad_theta", Array::scalar(gradient)))
}

fn scalar(case: &Case, name: &str) -> Result<f64> {
    match case.input(name)?.data[..] {
        [value] => Ok(value),
        ref values => Err(Error::invalid(format!("`{name}` has {} values, must be one number", values.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{GoldenFile, functions};

    #[test]
    fn the_golden_cases_pass() {
        let results = crate::conformance::run_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/meco.json")).unwrap();
        assert_eq!(results.len(), 15);
        for result in results {
            assert!(result.failures.is_empty(), "{result:?}");
        }
    }

    /// What the golden case of this name becomes when inputs and parameters are changed.
    fn changed(name: &str, inputs: &[(&str, &[f64])], params: serde_json::Value) -> Result<Outputs, String> {
        let file: GoldenFile =
            foils::files::read_json(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/meco.json"))).unwrap();
        let mut case = file.cases.into_iter().find(|c| c.name == name).unwrap();
        for (name, values) in inputs {
            let shape = if case.inputs[*name].shape.is_empty() { vec![] } else { vec![values.len()] };
            case.inputs.insert((*name).to_owned(), Array::new(shape, *values));
        }
        case.params.extend(params.as_object().unwrap().clone());
        functions()[case.function.as_str()](&case).map_err(|e| e.to_string())
    }

    #[test]
    fn bad_input_is_refused_with_its_value() {
        let none = || serde_json::json!({});
        let says = |result: Result<Outputs, String>, word: &str| {
            let message = result.unwrap_err();
            assert!(message.contains(word), "{message} should name {word}");
        };
        for name in ["step", "plugin", "ence"] {
            says(changed(name, &[("log_model_data", &[])], none()), "log_model_data has 0 values");
            says(changed(name, &[("log_model_noise", &[])], none()), "log_model_noise has 0 values");
            says(changed(name, &[("log_model_noise", &[0.0])], none()), "log_model_noise has 1 values");
            says(changed(name, &[("log_model_data", &[0.0, f64::NAN])], none()), "log_model_data: value 1 is NaN");
            says(changed(name, &[("log_model_data", &[f64::NEG_INFINITY])], none()), "log_model_data: value 0 is -inf");
            let noise = |p: f64, q: f64| changed(name, &[("log_model_noise", &[p]), ("log_noise_noise", &[q])], none());
            says(noise(f64::INFINITY, 0.0), "log_model_noise: value 0 is inf");
            says(noise(0.0, f64::NEG_INFINITY), "log_noise_noise: value 0 is -inf");
            if name != "ence" {
                says(noise(1e308, -1e308), "log weight: value 0 is inf");
                says(noise(f64::NEG_INFINITY, 0.0), "the model puts no mass on the noise");
            }
        }
        says(changed("step", &[("log_u_prev", &[f64::NAN])], none()), "log_u: value 0 is NaN");
        says(changed("ence", &[("log_z", &[f64::NAN])], none()), "log_z: value 0 is NaN");
        says(changed("step", &[], serde_json::json!({ "beta": 0.0 })), "beta = 0");
        says(changed("step", &[], serde_json::json!({ "beta": 1.5 })), "beta = 1.5");
        // What the first step ignores may be anything.
        assert!(changed("step_beta_one_equals_plugin", &[("log_u_prev", &[f64::NAN])], none()).is_ok());

        for name in ["trajectory_meco", "trajectory_mle_plugin", "trajectory_nce", "trajectory_ence_ngd"] {
            for (param, bad) in [("beta", 0.0), ("beta", 1.1), ("gamma", 0.0), ("gamma", -1.0), ("noise_std", 0.0), ("noise_std", -2.0)] {
                says(changed(name, &[], serde_json::json!({ param: bad })), &format!("{param} = {bad}"));
            }
        }
        says(changed("trajectory_meco", &[], serde_json::json!({ "method": "sgd" })), "method `sgd`");
        says(changed("population_nce", &[], serde_json::json!({ "objective": "mle" })), "objective `mle`");
        says(changed("population_nce", &[("theta", &[f64::NAN])], none()), "theta = NaN");
        assert!(changed("population_nll", &[], serde_json::json!({ "log_z": null, "noise_mean": null })).is_ok());
    }
}
