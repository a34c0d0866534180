"""A discretizer from a taming or latent-diffusion file: verified, converted, saved as ours."""

from pathlib import Path

from pipeline.config.specs import dump_spec, get_spec
from pipeline.data.dataset_artefact import open_dataset
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.pretrained.checkpoint_files import read_fitting_weights
from pipeline.models.pretrained.vqgan_match import assemble_vqgan
from pipeline.models.vqgan import save
from pipeline.stages.vqgan_quality import measure_quality
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1

MEASURED_IMAGES = 64  # number of test images on which it is measured
BATCH_SIZE = 4  # images at once


def load_checkpoint(job: Job) -> Manifest:
    """Read the file, whose path is in the job file and whose sum is in the key, and save it.

    Raises:
        RetortError: the file is not what the configuration says, or does not hold such a VQGAN.
    """
    path, spec = Path(job.run["checkpoint"]).expanduser(), get_spec(job)
    stated = None if spec.architecture is None else dump_spec(spec.architecture)
    _, state = read_fitting_weights(
        path,
        spec.checkpoint.sha256,
        spec.checkpoint.take,
        lambda state: assemble_vqgan(state, stated, str(path)),
    )
    found = assemble_vqgan(state, stated, str(path))
    model = found.model
    facts = {"n_codes": model.architecture.n_codes, "architecture": found.fields}
    if "dataset" in job.inputs:
        data = open_dataset(job.inputs["dataset"])
        facts |= measure_quality(
            model, data.read_split("test").images[:MEASURED_IMAGES], "cpu", BATCH_SIZE
        )
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        save(model, temporary)
    return job.build_manifest([MODEL_FILE], facts | {"left_out": len(found.left_out)})
