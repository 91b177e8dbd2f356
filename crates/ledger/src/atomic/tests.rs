use super::*;
pub(super) fn reached(_n: &'static str) -> io::Result<()> {
    Ok(())
}
