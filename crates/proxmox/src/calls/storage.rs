//! Calls on storages: content, uploads, downloads, removals.

use sha2::{Digest, Sha256};

use crate::client::{Client, Request};
use crate::error::Error;
use crate::multipart::iso_upload;
use crate::wire::{StorageContent, StorageStatus};
use crate::{Params, wire};

use super::settle::Look;

impl Client {
    /// The storages of this host that the account may see.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn storages(&self) -> Result<Vec<StorageStatus>, Error> {
        self.read(Request::list(&["nodes", self.host().as_str(), "storage"])).await
    }

    /// The state of a storage.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn storage_status(&self, storage: &str) -> Result<StorageStatus, Error> {
        let path = ["nodes", self.host().as_str(), "storage", storage, "status"];
        self.read(Request::get(&path)).await
    }

    /// The volumes of a storage of one content type, such as `iso` or `import`. Concurrent callers
    /// share a read.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn storage_content(
        &self,
        storage: &str,
        content: &str,
    ) -> Result<Vec<StorageContent>, Error> {
        let path = ["nodes", self.host().as_str(), "storage", storage, "content"];
        let query = Params::new().with("content", content);
        self.read_list(Request::list(&path).query(query)).await
    }

    /// The volume with that file name, if it exists.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn find_file(
        &self,
        storage: &str,
        content: &str,
        name: &str,
    ) -> Result<Option<wire::StorageContent>, Error> {
        let volumes = self.storage_content(storage, content).await?;
        Ok(volumes.into_iter().find(|volume| volume.file_name() == name))
    }

    /// Makes the host download a file, verified by its SHA-256, and returns the volume's id.
    ///
    /// An existing file of that name is kept if its contents match, and refused otherwise. Needs
    /// Datastore.AllocateTemplate and Sys.AccessNetwork on the node. Source: pve-storage
    /// src/PVE/API2/Storage/Status.pm, `download_url`.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn download(
        &self,
        storage: &str,
        content: &str,
        name: &str,
        url: &str,
        sha256: &str,
    ) -> Result<String, Error> {
        let form = Params::new()
            .with("content", content)
            .with("filename", name)
            .with("url", url)
            .with("checksum", sha256)
            .with("checksum-algorithm", "sha256");
        let path = ["nodes", self.host().as_str(), "storage", storage, "download-url"];
        self.settle(Request::post(&path).form(form), || async {
            match self.find_file(storage, content, name).await? {
                Some(_) => Ok(Look::Done),
                None => self.look_for_task("download", name).await,
            }
        })
        .await?;
        Ok(format!("{storage}:{content}/{name}"))
    }

    /// Uploads an ISO image and returns the volume's id. A file of that name is overwritten.
    ///
    /// The request goes to the host of the storage, because any other would have to copy the file
    /// there. Needs Datastore.AllocateTemplate.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn upload_iso(
        &self,
        storage: &str,
        name: &str,
        image: &[u8],
    ) -> Result<String, Error> {
        let sha256 = hex::encode(Sha256::digest(image));
        let (content_type, body) = iso_upload(name, image, &sha256);
        let path = ["nodes", self.host().as_str(), "storage", storage, "upload"];
        self.settle(Request::post(&path).raw(content_type, body), || async {
            let found = self.find_file(storage, "iso", name).await?;
            match found {
                Some(file) if file.size == image.len() as u64 => Ok(Look::Done),
                // An upload's task does not name the file.
                _ => self.look_for_task("imgcopy", "").await,
            }
        })
        .await?;
        Ok(format!("{storage}:iso/{name}"))
    }

    /// Removes a volume. A missing volume is not an error. Needs Datastore.Allocate for an ISO or
    /// import file.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn delete_volume(&self, volume: &str) -> Result<(), Error> {
        let (storage, rest) = volume.split_once(':').unwrap_or(("local", volume));
        let content = rest.split('/').next().unwrap_or_default();
        let path = ["nodes", self.host().as_str(), "storage", storage, "content", volume];
        self.settle(Request::delete(&path), || async {
            let volumes = self.storage_content(storage, content).await?;
            if !volumes.iter().any(|found| found.volid == volume) {
                return Ok(Look::Done);
            }
            self.look_for_task("imgdel", storage).await
        })
        .await
    }
}
