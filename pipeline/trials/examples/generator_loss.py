"""Generator's loss: images on which the teacher is sure."""

from dataclasses import dataclass

from pipeline.core.losses import cross_entropy


@dataclass(frozen=True)
class Loss:
    """The fields are its options in the configuration; each has a type and a default."""

    weight: float = 1.0

    def __call__(self, batch):
        """Terms of batch.x and the teacher's batch.logits (B,K): one value a sample, (B,)."""
        return {"sure": self.weight * cross_entropy(batch.logits, batch.logits.argmax(1))}
