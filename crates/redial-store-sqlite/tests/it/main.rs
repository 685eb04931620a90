//! The store through its public interface.

mod backups;
mod conformance;
mod disk;
mod full;
mod growth;
mod guarded;
mod opening;
mod owned;
mod principals;
mod rig;
mod unruly;
mod waiting;
mod workbench;
