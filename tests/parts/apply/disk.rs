//! A small file system of its own, to fill it or to make it read-only; needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs. It is unmounted when the value is dropped.
pub struct Disk(PathBuf);

impl Disk {
    pub fn mount(path: PathBuf, kilobytes: u32) -> Disk {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={kilobytes}k,mode=0755");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "a tmpfs cannot be mounted; this test needs root"
        );
        Disk(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let status = Command::new("mount")
            .args(["-o", &option])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
