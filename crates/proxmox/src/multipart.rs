//! The upload form. Proxmox VE parses it by position, so it is written by hand.
//!
//! Fields come as `content`, `checksum-algorithm`, `checksum`, then the file under the name
//! `filename`; `Content-Disposition` is the first header of each part, and the boundary is not
//! quoted. Source: pve-http-server src/PVE/APIServer/AnyEvent.pm, `file_upload_multipart`.

/// The content type and body of an upload of an ISO image.
pub(super) fn iso_upload(name: &str, image: &[u8], sha256: &str) -> (String, Vec<u8>) {
    // The hash of the image cannot occur in the image by chance.
    let boundary = format!("k8sha-{sha256}");
    let mut body = Vec::with_capacity(image.len() + 1024);
    for (field, value) in
        [("content", "iso"), ("checksum-algorithm", "sha256"), ("checksum", sha256)]
    {
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(part.as_bytes());
    }
    let part = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    );
    body.extend_from_slice(part.as_bytes());
    body.extend_from_slice(image);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}
