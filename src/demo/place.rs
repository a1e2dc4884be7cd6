//! Where a demo works and what it leaves behind.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nearcast_datasets::LogSource;
use tempfile::TempDir;

/// A folder for the log and the models, and the place of the report.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    report: PathBuf,
    /// Removes the folder at the end, unless the user wants to keep it.
    scratch: Option<TempDir>,
}

impl Place {
    /// Prepares a place and makes sure, before any work is done, that the report can be written there.
    ///
    /// # Errors
    /// When something of another origin would be overwritten, or nothing can be written.
    pub(crate) fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let place = match dir {
            Some(dir) => {
                fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
                Self { folder: dir.to_path_buf(), report: dir.join(REPORT), scratch: None }
            }
            None => {
                let scratch = tempfile::Builder::new().prefix("nearcast-demo-").tempdir();
                let scratch = scratch.context("cannot make a temporary folder; choose one with `--dir`")?;
                let folder = scratch.path().to_path_buf();
                Self { folder, report: PathBuf::from(REPORT), scratch: Some(scratch) }
            }
        };
        place.check_report()?;
        Ok(place)
    }

    /// Writes the bundled log, if it is not there yet.
    ///
    /// # Errors
    /// When it cannot be written, or another file has its name.
    pub(crate) fn write_log(&self) -> anyhow::Result<LogSource> {
        let path = self.folder.join(LOG_NAME);
        match fs::read(&path) {
            Ok(found) if found == LOG => {}
            Ok(_) => bail!("{} is not the bundled log; choose another folder with `--dir`", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::write(&path, LOG).with_context(|| format!("cannot write {}", path.display()))?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
        Ok(LogSource::from(path.as_path()))
    }

    /// Where the models are published.
    pub(crate) fn registry(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// Where the report goes.
    pub(crate) fn report(&self) -> &Path {
        &self.report
    }

    /// The folder, when it is kept.
    pub(crate) fn kept(&self) -> Option<&Path> {
        self.scratch.is_none().then_some(&*self.folder)
    }

    fn check_report(&self) -> anyhow::Result<()> {
        let path = &self.report;
        match fs::read_to_string(path) {
            Ok(found) if found.contains(&format!("<title>{TITLE}</title>")) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) | Err(_) => bail!(
                "{} is there already and no report of an earlier demo; move it away, or choose a folder with `--dir`",
                path.display()
            ),
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let written = tempfile::tempfile_in(folder);
        written.with_context(|| format!("cannot write {}; choose a folder with `--dir`", path.display()))?;
        Ok(())
    }
}

/// The title of the report's page, by which a report is known.
pub(super) const TITLE: &str = "Nearcast demo";
/// The log's file name; it is described in `datasets/samples/README.md`.
pub(super) const LOG_NAME: &str = "web-1995.parquet";

const REPORT: &str = "report.html";
const LOG: &[u8] = include_bytes!("../../datasets/samples/web-1995.parquet");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_bundled_log_once_and_refuses_another_file_of_its_name() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("new");
        let place = Place::open(Some(&dir))?;
        place.write_log()?;
        place.write_log()?;
        assert_eq!(fs::read(dir.join(LOG_NAME))?, LOG);
        fs::write(dir.join(LOG_NAME), "mine")?;
        assert!(place.write_log().is_err_and(|error| error.to_string().contains("not the bundled log")));
        Ok(())
    }

    #[test]
    fn overwrites_its_own_report_and_no_other() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let report = folder.path().join(REPORT);
        fs::write(&report, format!("<head><title>{TITLE}</title>"))?;
        Place::open(Some(folder.path()))?;
        fs::write(&report, "<title>Quarterly figures</title>")?;
        let refusal = Place::open(Some(folder.path())).map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains("report.html") && refusal.contains("--dir"), "{refusal}");
        Ok(())
    }

    #[test]
    fn a_folder_that_was_not_chosen_is_gone_afterwards() -> anyhow::Result<()> {
        let place = Place::open(None)?;
        let folder = place.folder.clone();
        place.write_log()?;
        assert!(place.kept().is_none() && folder.join(LOG_NAME).exists());
        drop(place);
        assert!(!folder.exists());
        Ok(())
    }
}
