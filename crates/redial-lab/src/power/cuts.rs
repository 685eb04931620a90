//! Cuts the power of a recorded run at many points, and has each time the files checked.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    check::{self, Broken},
    disk::Base,
    record::{Acknowledged, Recording},
};
use crate::harness::progress;

/// What is cut, and how often.
pub(crate) struct Cuts<'a> {
    pub(crate) recording: &'a Recording,
    /// Where the files are rebuilt.
    pub(crate) folder: &'a Path,
    pub(crate) seed: u64,
    pub(crate) count: u64,
}

/// How many replies of a life are its first ones.
const FIRST: usize = 8;

/// What was found.
#[derive(Default, Serialize)]
pub(crate) struct Findings {
    /// How many calls were acknowledged in the whole run.
    pub(crate) calls: u64,
    /// How many system calls synced.
    pub(crate) syncs: u64,
    /// How often the power was cut.
    pub(crate) cuts: u64,
    /// How many calls had been acknowledged before each cut, all cuts together.
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// How many cuts broke a promise.
    pub(crate) broken: u64,
    pub(crate) problems: Vec<String>,
}

/// What a cut leaves of the changes that were not synced.
#[derive(Clone, Copy, Debug)]
enum CutRule {
    /// Nothing.
    Lost,
    /// All, as after `kill -9`.
    Kept,
    /// What was written up to some moment.
    Prefix,
    /// All of some files, nothing of others.
    ByFile,
    /// For pages of 4 KiB each a moment of its own.
    ByPage,
    /// The same for sectors.
    BySector,
    /// Nearly everything.
    FewLost,
    /// Nearly nothing.
    FewKept,
}

const RULES: [CutRule; 8] = [
    CutRule::Lost,
    CutRule::Kept,
    CutRule::Prefix,
    CutRule::ByFile,
    CutRule::ByPage,
    CutRule::BySector,
    CutRule::FewLost,
    CutRule::FewKept,
];

impl Cuts<'_> {
    pub(crate) fn run(&self) -> Result<Findings> {
        let recording = self.recording;
        let mut findings = Findings {
            calls: recording.acknowledged.len() as u64,
            syncs: recording.disk.syncs(),
            ..Findings::default()
        };
        let mut bases: Vec<Base> = Vec::new();
        bases.resize_with(recording.disk.files.len(), Base::default);
        let bar = progress::bar(self.count, "{pos}/{len} power cuts");
        for (number, cut) in self.points().into_iter().enumerate() {
            let rule = RULES[number % RULES.len()];
            self.rebuild(cut, rule, number as u64, &mut bases)?;
            let is_before = |reply: &Acknowledged| reply.at < cut;
            let before = recording.acknowledged.partition_point(is_before);
            let (acknowledged, later) = recording.acknowledged.split_at(before);
            findings.cuts += 1;
            findings.acknowledged += acknowledged.len() as u64;
            let outside = recording.outside.as_deref();
            let outside = outside
                .map(|effects| &effects[..effects.partition_point(|effect| effect.at < cut)]);
            let broken = check::broken(self.folder, outside, acknowledged, later);
            if !broken.is_empty() {
                self.report(&mut findings, cut, rule, &broken)?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(findings)
    }

    /// The system calls before which the power is cut, in order: as soon as a reply has left, or one of
    /// the first after a restart; or anywhere.
    fn points(&self) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let recording = self.recording;
        let points = (0..self.count).map(|number| {
            let life = *recording.lives.choose(&mut rng).unwrap_or(&0);
            let replies = &recording.acknowledged;
            let first = &replies[replies.partition_point(|reply| reply.at < life)..];
            let reply = match number % 4 {
                0 => first[..first.len().min(FIRST)].choose(&mut rng),
                1 | 2 => replies.choose(&mut rng),
                _ => None,
            };
            let anywhere = rng.random_range(0..=recording.events);
            reply.map_or(anywhere, |reply| reply.at + 1)
        });
        let mut points: Vec<_> = points.collect();
        points.sort_unstable();
        points
    }

    /// Writes the files as the cut leaves them.
    fn rebuild(&self, cut: usize, rule: CutRule, number: u64, bases: &mut [Base]) -> Result<()> {
        let disk = &self.recording.disk;
        if self.folder.exists() {
            fs::remove_dir_all(self.folder)?;
        }
        fs::create_dir_all(self.folder)
            .with_context(|| format!("can't make {}", self.folder.display()))?;
        for (file, base) in disk.files.iter().zip(&mut *bases) {
            file.advance(base, cut);
        }
        let chooser = HashChooser {
            seed: self.seed ^ number << 20,
            rule,
            number,
        };
        let names = disk.names_at(cut, |open| chooser.moment(u64::MAX, Some(0), open));
        for (name, index) in names {
            let file = index as u64;
            let bytes = disk.files[index].after_cut(
                &bases[index],
                cut,
                |sector, open| chooser.moment(file, sector, open),
                |sector| chooser.fill(sector),
            );
            let path = self.folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(())
    }

    /// Counts what was broken, and keeps the first files of that kind.
    fn report(
        &self,
        findings: &mut Findings,
        cut: usize,
        rule: CutRule,
        broken: &[Broken],
    ) -> Result<()> {
        findings.broken += 1;
        let count = |is: fn(&&Broken) -> bool| broken.iter().filter(is).count() as u64;
        findings.lost += count(|broken| matches!(broken, Broken::Lost(..)));
        findings.doubled += count(|broken| matches!(broken, Broken::Doubled(..)));
        let whole = format!("power cut before system call {cut}, unsynced writes {rule:?}");
        let more = broken.len() - 1;
        findings
            .problems
            .push(format!("{whole}: {} (and {more} more)", broken[0]));
        let kept = self.folder.with_extension(format!("{cut}-{rule:?}"));
        if findings.broken <= 3 && !kept.exists() {
            fs::rename(self.folder, kept)?;
            fs::create_dir_all(self.folder)?;
        }
        Ok(())
    }
}

/// Chooses by hash, so that what is chosen of one sector does not depend on any other.
struct HashChooser {
    seed: u64,
    rule: CutRule,
    number: u64,
}

impl HashChooser {
    /// How many of `open` changes are on the disk, of this sector or of this file's length.
    fn moment(&self, file: u64, sector: Option<usize>, open: usize) -> usize {
        let sector = sector.map_or(u64::MAX, |sector| sector as u64);
        let any = |unit: u64| (self.roll(file, unit) % (open as u64 + 1)) as usize;
        let one_in_ten = self.roll(file, sector).is_multiple_of(10);
        match self.rule {
            CutRule::Lost => 0,
            CutRule::Kept => open,
            // One moment for all sectors, not one of each file: other files have other changes.
            CutRule::Prefix => any(1),
            CutRule::ByFile if self.roll(file, 2).is_multiple_of(2) => 0,
            CutRule::ByFile => open,
            CutRule::ByPage => any(sector / 8),
            CutRule::BySector => any(sector),
            CutRule::FewLost if one_in_ten => 0,
            CutRule::FewLost => open,
            CutRule::FewKept if one_in_ten => open,
            CutRule::FewKept => 0,
        }
    }

    /// What lies where nothing was written: zeros, or at times what was there before.
    fn fill(&self, sector: usize) -> u8 {
        if self.number.is_multiple_of(3) {
            (self.roll(7, sector as u64) % 256) as u8
        } else {
            0
        }
    }

    fn roll(&self, file: u64, unit: u64) -> u64 {
        let mixed = self.seed ^ file.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ unit << 1;
        ChaCha8Rng::seed_from_u64(mixed).next_u64()
    }
}
