"""The values between scheduler and executor."""

from farthing.ops.batch import BatchShape
from farthing.scheduler.batch import Batch, BatchItem


def test_the_shape_counts_new_and_context_tokens_and_one_row_of_logits_per_sampling_item() -> None:
    batch = Batch(
        0,
        (
            BatchItem(seq_id=3, start=9, token_ids=(1,), block_ids=(0, 1, 2), samples=True, output_index=2),
            BatchItem(seq_id=4, start=0, token_ids=(1, 2, 3), block_ids=(3,), samples=False, output_index=0),
        ),
    )
    assert batch.shape == BatchShape(((1, 9), (3, 0)), num_logits=1)


def test_equal_batches_compare_equal() -> None:
    item = BatchItem(seq_id=0, start=0, token_ids=(1,), block_ids=(0,), samples=True, output_index=0)
    assert Batch(1, (item,)) == Batch(1, (item,)) != Batch(2, (item,))
