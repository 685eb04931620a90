//! What all experiments share: from flags to a report, a page and an exit code.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::{
    harness::{programs::Programs, workspace::Workspace},
    report,
};

/// An experiment, set up by its flags.
pub(crate) trait Experiment: clap::Args {
    /// Its command; its page and its lock are called the same.
    const NAME: &'static str;
    /// Whether a second run would spoil the files or the figures of the first.
    const RUNS_ALONE: bool = false;

    /// What its page is called.
    fn page(&self) -> &'static str {
        Self::NAME
    }

    /// What it finds.
    type Results: Report;

    /// Runs it.
    fn run(&self, lab: &Lab<'_>) -> Result<Self::Results>;
}

/// What an experiment found, as its readers want it.
pub(crate) trait Report {
    /// For people, without the line break at its end. `page` is where the HTML page is.
    fn text(&self, page: &Path) -> String;

    /// The same as one JSON object.
    fn json(&self, page: &Path) -> Result<String>;

    /// The HTML page, if there is one.
    fn html(&self) -> Option<String>;

    /// Which promises were broken, one in each line.
    fn problems(&self) -> Vec<String>;
}

impl Report for Box<dyn Report> {
    fn text(&self, page: &Path) -> String {
        (**self).text(page)
    }

    fn json(&self, page: &Path) -> Result<String> {
        (**self).json(page)
    }

    fn html(&self) -> Option<String> {
        (**self).html()
    }

    fn problems(&self) -> Vec<String> {
        (**self).problems()
    }
}

/// An experiment's flags, behind those that every experiment has.
#[derive(clap::Args)]
pub(crate) struct Flags<E: Experiment> {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    experiment: E,
}

#[derive(clap::Args)]
struct CommonFlags {
    /// Print one JSON object on stdout, and nothing else there
    #[arg(long)]
    json: bool,
    /// Use the programs in this folder instead of building them
    #[arg(long, hide = true, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Where an experiment gets its programs, and where it puts its files.
pub(crate) struct Lab<'a> {
    workspace: Workspace,
    flags: &'a CommonFlags,
    /// Where pages and the experiments' folders go.
    output: PathBuf,
}

impl Lab<'_> {
    /// The example programs, built in release unless the flags name a folder.
    pub(crate) fn programs(&self) -> Result<Programs> {
        let folder = self.build("redial-examples", "release")?;
        Ok(Programs::new(folder))
    }

    /// The folder with the programs of this package, built with this profile unless the flags name
    /// a folder.
    pub(crate) fn build(&self, package: &str, profile: &str) -> Result<PathBuf> {
        match &self.flags.programs {
            Some(folder) => Ok(folder.clone()),
            None => self.workspace.build(package, profile, self.flags.json),
        }
    }

    /// A folder for the programs' own files; made if it isn't there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.output.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        Ok(folder)
    }

    /// The same, emptied.
    pub(crate) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.output.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("can't empty {}", folder.display()))?;
        }
        self.folder(name)
    }
}

/// Runs an experiment and reports what it found. The exit code is 0 if every promise was kept.
pub(crate) fn conduct<E: Experiment>(flags: &Flags<E>) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let lock = || workspace.claim(E::NAME);
    let _lock = E::RUNS_ALONE.then(lock).transpose()?;
    let lab = Lab {
        output: workspace.output()?,
        workspace,
        flags: &flags.common,
    };
    let results = flags.experiment.run(&lab)?;
    let page = lab.output.join(format!("{}.html", flags.experiment.page()));
    if let Some(html) = results.html() {
        report::page::write(&page, &html)?;
    }
    if lab.flags.json {
        println!("{}", results.json(&page)?);
    } else {
        println!("\n{}", results.text(&page));
    }
    let problems = results.problems();
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
