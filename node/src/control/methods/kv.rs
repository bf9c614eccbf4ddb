//! The methods `kv_*`.

mod answer;
mod ask;

use jsonrpsee::server::RpcModule;
use weft_dht::kv::KvKey;
use weft_dht::store;
use weft_identity::PeerId;
use weft_rpc::Error;
use weft_rpc::method;
use weft_rpc::types::{self, KvWritten};

use super::super::once::Named;
use super::super::{Context, errors};
use super::{Call, on};

pub(super) fn register(module: &mut RpcModule<Context>) {
    on::<method::KvGet, _, _>(module, |call, params| async move { call.get(params).await });
    on::<method::KvPut, _, _>(module, |call, params| async move {
        let (key, ask) = ask::put(&params)?;
        let id = params.request_id.as_deref();
        let named = Named::call::<method::KvPut>(id, &params)?;
        call.write(key, ask, named).await
    });
    on::<method::KvDelete, _, _>(module, |call, params| async move {
        let (key, ask) = ask::delete(&params)?;
        let id = params.request_id.as_deref();
        let named = Named::call::<method::KvDelete>(id, &params)?;
        call.write(key, ask, named).await
    });
    on::<method::KvCas, _, _>(module, |call, params| async move {
        let (key, ask) = ask::cas(&params)?;
        let id = params.request_id.as_deref();
        let named = Named::call::<method::KvCas>(id, &params)?;
        call.write(key, ask, named).await
    });
    on::<method::KvList, _, _>(module, |call, params| async move {
        let ask = ask::list(&params)?;
        answer::listed(&params.prefix, call.kv(ask).await?)
    });
    on::<method::KvLocate, _, _>(module, |call, params| async move {
        let (key, terms) = ask::of_key(&params)?;
        let ask = store::Call::Locate {
            key: key.clone(),
            terms,
        };
        answer::located(&key, call.kv(ask).await?)
    });
    on::<method::KvRepair, _, _>(module, |call, params| async move {
        let (key, terms) = ask::of_key(&params)?;
        let ask = store::Call::Repair {
            key: key.clone(),
            terms,
        };
        answer::repaired(&key, call.kv(ask).await?)
    });
}

impl Call {
    async fn kv(&self, ask: store::Call<PeerId>) -> Result<store::Outcome<PeerId>, Error> {
        let outcome = self.context.node.kv(ask).await;
        outcome.ok_or_else(errors::stopping)
    }

    async fn get(&self, params: types::KvGetParams) -> Result<types::KvGot, Error> {
        let (key, ask) = ask::get(&params)?;
        answer::got(&key, self.kv(ask).await?, answer::now())
    }

    /// Carries out a write, once for all requests of one name.
    async fn write(
        &self,
        key: KvKey,
        ask: store::Call<PeerId>,
        named: Option<Named>,
    ) -> Result<KvWritten, Error> {
        let node = self.context.node.clone();
        let work = async move {
            let outcome = node.kv(ask).await.ok_or_else(errors::stopping)?;
            answer::written(&key, outcome)
        };
        self.context.writes.run(named, work).await
    }
}
