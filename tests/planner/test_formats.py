"""Which formats a plan considers where, and what precision each of them means."""

from dataclasses import replace

import pytest
from round_hardware import round_device, tiny_config

from farthing.errors import FarthingError, UnsupportedError
from farthing.hardware.accelerator import accelerator_ids, load_accelerator
from farthing.planner.formats import candidate_formats, narrow_kv_format, precision_of
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import Device, catalogue_device


def card(id: str) -> Device:
    return catalogue_device(load_accelerator(id), 2**34)


def candidates(*devices: Device, stored: str = "bfloat16", asked: str = "auto") -> list[str]:
    config = tiny_config(torch_dtype=stored)
    return [one.name for one in candidate_formats(PlanRequest(format=asked), config, devices)]


def test_auto_goes_from_the_checkpoint_s_own_16_bits_to_4():
    assert candidates(card("rtx-4090")) == ["bf16", "fp8", "w8a16", "w4a16"]
    assert candidates(card("rtx-4090"), stored="float16") == ["fp16", "fp8", "w8a16", "w4a16"]
    assert candidates(card("rtx-4090"), stored="float32") == ["bf16", "fp8", "w8a16", "w4a16"]


def test_a_card_without_fp8_is_not_offered_it():
    assert candidates(card("a100-80-sxm")) == ["bf16", "w8a16", "w4a16"]


def test_a_cpu_multiplies_in_int8():
    assert candidates(card("xeon-8480p")) == ["bf16", "w8a8", "w4a8"]


@pytest.mark.parametrize("id", ["v100-sxm2-32", "t4", "m2-ultra"])
def test_a_device_without_bf16_multiplies_quantized_weights_in_fp16(id: str):
    config, device = tiny_config(), card(id)
    found = list(candidate_formats(PlanRequest(), config, [device]))
    assert [one.name for one in found if one.name.endswith("a16") or one.name == "fp16"] == ["fp16", "w8a16", "w4a16"]
    for weight_format in found:
        precision = precision_of(PlanRequest(), weight_format, config, [device])
        assert precision.activation_dtype == "fp16"
        assert device.machine.flops_per_second(weight_format.math, 1) > 0


@pytest.mark.parametrize("id", ["v100-sxm2-32", "m2-ultra"])
def test_int4_can_be_asked_for_on_a_device_without_bf16(id: str):
    assert candidates(card(id), asked="int4") == ["w4a16"]


def test_all_devices_must_multiply_in_it():
    assert candidates(card("rtx-4090"), card("rtx-3090")) == ["bf16", "w8a16", "w4a16"]


def test_without_a_rate_in_16_bits_nothing_is_planned_in_fp32_instead():
    for maths in (("fp32",), ("fp32", "fp4")):
        unknown = round_device(maths=maths)
        assert candidates(unknown) == ["bf16", "w8a16", "w4a16"]  # memory can be planned, time can't
        with pytest.raises(UnsupportedError, match="round-1"):
            candidates(replace(unknown, unsupported=frozenset({"bf16", "fp16"})))


def test_a_format_that_is_asked_for_is_the_only_candidate_and_is_refused_where_it_has_no_path():
    assert candidates(card("rtx-4090"), asked="INT4") == ["w4a16"]
    assert candidates(card("xeon-8480p"), asked="int4") == ["w4a8"]
    with pytest.raises(UnsupportedError, match=r"a100-80-sxm has no fast path for fp8"):
        candidates(card("a100-80-sxm"), asked="fp8")
    with pytest.raises(UnsupportedError, match=r"'int3' is not known - use one of .*int4"):
        candidates(card("rtx-4090"), asked="int3")


def test_every_device_of_the_catalogue_has_a_format_or_says_why_not():
    for id in accelerator_ids():
        try:
            assert candidates(card(id))
        except FarthingError as error:
            assert id in str(error) and error.fix


@pytest.mark.parametrize(
    ("asked", "dtype"), [("auto", "bf16"), ("fp8", "fp8_e4m3"), ("int8", "int8"), ("FP16", "fp16"), ("fp32", "fp32")]
)
def test_the_cache_has_the_activations_format_unless_another_is_asked_for(asked: str, dtype: str):
    request, device = PlanRequest(kv_format=asked), card("rtx-4090")
    (weight_format,) = candidate_formats(PlanRequest(format="int4"), tiny_config(), [device])
    precision = precision_of(request, weight_format, tiny_config(), [device])
    assert (precision.format.name, precision.activation_dtype, precision.kv_dtype) == ("w4a16", "bf16", dtype)


def test_a_cpu_has_the_head_in_8_bits_where_it_rounds_the_layers_and_a_gpu_never():
    def head_of(asked: str, id: str) -> str | None:
        request, device = PlanRequest(format=asked), card(id)
        (weight_format,) = candidate_formats(request, tiny_config(), [device])
        found = precision_of(request, weight_format, tiny_config(), [device]).head_format
        return found and found.name

    assert head_of("int8", "epyc-9654") == head_of("int4", "epyc-9654") == "w8a8"
    assert head_of("bf16", "epyc-9654") is None
    assert head_of("w8a8", "rtx-4090") is None


def test_the_narrow_cache_that_is_advised_is_int8_on_processors_and_fp8_on_cards():
    processor, gpu = (replace(card("rtx-4090"), kind=kind) for kind in ("cpu", "cuda"))
    assert [narrow_kv_format(devices) for devices in ([processor] * 2, [gpu], [processor, gpu])] == [
        "int8",
        "fp8",
        "fp8",
    ]


@pytest.mark.parametrize("asked", ["int4", "w8a16", "fp4", "", "q8_0"])
def test_an_unknown_format_of_the_cache_is_refused(asked: str):
    device = card("rtx-4090")
    (weight_format,) = candidate_formats(PlanRequest(format="bf16"), tiny_config(), [device])
    with pytest.raises(FarthingError, match="use "):
        precision_of(PlanRequest(kv_format=asked), weight_format, tiny_config(), [device])
