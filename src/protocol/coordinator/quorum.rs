//! Whether a request's numbers make sense for its namespace.

use crate::protocol::coordinator::Durability;
use crate::protocol::coordinator::Namespace;
use crate::protocol::coordinator::RequestError;
use crate::protocol::wire::command::Operation;
use crate::protocol::wire::command::Put;
use crate::protocol::wire::command::ReadOptions;
use crate::protocol::wire::command::WriteOptions;

/// Checks what a get asks for. More than N is refused; more than there are members is not, for
/// effective N is what there is.
///
/// # Errors
///
/// [`RequestError::QuorumAboveN`], [`RequestError::NotStrict`].
pub fn check_read(namespace: &Namespace, options: &ReadOptions) -> Result<(), RequestError> {
    check(namespace, "R", options.r)?;
    check(namespace, "PR", options.pr)?;
    check_strict(namespace, options.strict)
}

/// Checks what a put asks for.
///
/// # Errors
///
/// [`RequestError::QuorumAboveN`], [`RequestError::NotStrict`].
pub fn check_write(namespace: &Namespace, options: &WriteOptions) -> Result<(), RequestError> {
    check(namespace, "W", options.w)?;
    check(namespace, "PW", options.pw)?;
    check(namespace, "DW", options.dw)?;
    check_strict(namespace, options.strict)
}

/// Whether a write must be synced before it is acknowledged, whatever its namespace says: where a
/// number of synced copies is asked for.
pub fn wants_synced(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::DynPut(Put { options, .. })
        | Operation::ExplainPut(Put { options, .. })
        | Operation::DynDel { options, .. } => options.dw.is_some(),
        _ => false,
    }
}

fn check(
    namespace: &Namespace,
    option: &'static str,
    asked: Option<u8>,
) -> Result<(), RequestError> {
    match asked {
        Some(asked) if asked > namespace.n => {
            Err(RequestError::QuorumAboveN { option, asked, n: namespace.n })
        }
        _ => Ok(()),
    }
}

fn check_strict(namespace: &Namespace, strict: bool) -> Result<(), RequestError> {
    if strict && namespace.durability != Durability::Sync {
        return Err(RequestError::NotStrict);
    }
    Ok(())
}
