//! `foils reproduce PAPER`: does the paper's claim hold on real data at this scale?

use crate::{Status, output};
use foils::Result;
use foils::device::DeviceName;
use foils::files::AtomicFile;
use foils_studies::papers::{Paper, study};
use foils_studies::report::Report;
use foils_studies::study::{Baseline, Better, Budget};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

/// Run a paper's study over several seeds and judge its claims.
///
/// A claim that does not reproduce is a result: the exit code is 0 whatever the verdict, and 1 only when something that must
/// hold on any data does not.
#[derive(clap::Args)]
pub struct Args {
    /// The paper's short name, as `foils papers` lists it.
    paper: String,
    /// How many seeds; a verdict needs at least 2. [default: 3, with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    seeds: Option<u16>,
    /// The first of them. The verdicts that the book tells come from 1; others show what was not looked at before.
    #[arg(long, default_value_t = 1, value_name = "SEED", value_parser = clap::value_parser!(u32).range(1..))]
    first_seed: u32,
    /// The same recipe on so little data that it ends within a minute: tests the recipe, not the paper.
    #[arg(long)]
    quick: bool,
    /// Where models are trained: cpu, cuda, vulkan, metal, wgpu (each needs a build with that feature), or cuda:1 and so on.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    /// Also write the report to this JSON file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write a self-contained HTML page with the plots of the study.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs the command; [`Status::Failed`] when a check that must hold does not.
pub fn run(args: &Args) -> Result<Status> {
    crate::memory::keep_what_is_freed();
    let (study, paper) = study(&args.paper)?;
    // Opened before the run, so that a wrong path is said at once and not after minutes.
    let file = args.output.as_ref().map(AtomicFile::create).transpose()?;
    let page = args.report.as_ref().map(AtomicFile::create).transpose()?;
    let (budget, seeds) = if args.quick { (Budget::Quick, 1) } else { (Budget::Full, 3) };
    let first = u64::from(args.first_seed);
    let report = study.reproduce(first..first + u64::from(args.seeds.unwrap_or(seeds)), budget, args.device)?;
    if let Some(mut file) = file {
        let path = file.path().to_owned();
        serde_json::to_writer_pretty(&mut file, &report).map_err(|e| foils::Error::file(&path, None, e.to_string()))?;
        file.write_all(b"\n").map_err(foils::Error::io("write", &path))?;
        file.commit()?;
    }
    if let Some(mut page) = page {
        let path = page.path().to_owned();
        page.write_all(crate::report::study::render(&report, &paper).as_bytes()).map_err(foils::Error::io("write", &path))?;
        page.commit()?;
    }
    if args.json {
        output::json(&report)?
    } else {
        print(&report, &paper)
    }
    Ok(if report.must_hold { Status::Ok } else { Status::Failed })
}

fn print(report: &Report, paper: &Paper) {
    println!("{} ({})\n\nThe paper: {}\nChecked:   {}\nData:      {}", paper.title, paper.slug, report.says, report.checks, report.data);
    for (name, value) in &report.notes {
        println!("{name}: {value}");
    }
    let seeds: Vec<String> = report.runs.iter().map(|run| format!("seed {}", run.seed)).collect();
    let header = |first: &[&'static str]| [first.to_vec(), seeds.iter().map(String::as_str).collect()].concat();

    let mut table = output::table(&header(&["measured", "mean", "± sd"]));
    for (row, summary) in report.summary.iter().enumerate() {
        let mut cells = vec![summary.name.clone(), number(summary.mean), summary.sd.map(number).unwrap_or_default()];
        cells.extend(report.runs.iter().map(|run| {
            let mark = if run.outcome.unreliable.contains_key(&summary.name) { " *" } else { "" };
            run.outcome.measured.get(row).map(|(_, v)| number(*v) + mark).unwrap_or_default()
        }));
        table.add_row(cells);
    }
    println!("\n{table}");
    let doubts: BTreeSet<&String> = report.runs.iter().flat_map(|run| run.outcome.unreliable.values()).collect();
    for why in doubts {
        println!("* not to be trusted, and no claim rests on it: {why}");
    }

    let checks = report.runs.first().map_or(&[][..], |run| &run.outcome.checks);
    if !checks.is_empty() {
        let mut table = output::table(&header(&["must hold"]));
        for (row, check) in checks.iter().enumerate() {
            let mut cells = vec![check.says.clone()];
            cells.extend(report.runs.iter().filter_map(|run| run.outcome.checks.get(row)).map(|check| {
                let mark = if check.holds { "holds" } else { "FAILS" };
                format!("{mark}: {}", check.found)
            }));
            table.add_row(cells);
        }
        println!("\n{table}");
    }

    let mut table = output::table(&["claim", "by", "mean", "95 % interval", "verdict"]);
    for judged in &report.claims {
        let beats = if judged.claim.better == Better::Higher { "above" } else { "below" };
        let baseline = match judged.claim.baseline {
            Baseline::Metric(name) => name.to_owned(),
            Baseline::Value(value) => number(value),
        };
        let by = format!("{} {beats} {baseline} by more than {}", judged.claim.metric, judged.claim.margin);
        let interval = judged.interval.map_or("needs 2 seeds".to_owned(), |(low, high)| format!("{} … {}", number(low), number(high)));
        table.add_row([judged.claim.says, &by, &number(judged.mean), &interval, &judged.verdict.to_string()]);
    }
    let over = if seeds.len() == 1 { "1 seed".to_owned() } else { format!("{} seeds", seeds.len()) };
    println!("\n{table}\n\nVerdict over {over}: {} ({:.0} s, {} threads)", report.verdict, report.seconds, report.threads);
    if report.budget == Budget::Quick {
        println!("This was --quick: too little data to say anything about the paper.");
    }
    if !report.must_hold {
        println!("Something that must hold on any data does not: see the table above. Until that is understood the verdict means nothing.");
    }
}

/// Four digits after the point, or an exponent where those would show nothing.
fn number(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.2e}") } else { format!("{value:.4}") }
}
