//! Lets the engine find object stores the way everything else does.

use std::sync::Arc;

use datafusion::{
    error::{DataFusionError, Result},
    execution::{
        object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
};
use nearcast_datasets::store::Location;
use object_store::ObjectStore;
use url::Url;

/// Opens a store by its URL and the environment when it is first asked for.
#[derive(Debug, Default)]
struct Stores(DefaultObjectStoreRegistry);

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.0.register_store(url, store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Ok(store) = self.0.get_store(url) {
            return Ok(store);
        }
        let opened = Location::from_url(url.clone()).and_then(|location| location.open());
        let (store, _) = opened.map_err(|error| DataFusionError::External(Box::new(error)))?;
        self.0.register_store(url, Arc::clone(&store));
        Ok(store)
    }
}

/// A runtime that opens object stores.
pub(super) fn runtime() -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(Stores::default())).build_arc()
}
