import subprocess
import sys

from storyreel.stages.hardware import hardware_class


def test_a_process_without_a_gpu_is_of_the_class_of_its_cpu() -> None:
    assert hardware_class()
    assert len(hardware_class()) < 100


def test_asking_does_not_import_torch() -> None:
    """The driver asks too, and never loads what it does not need."""
    code = "import sys, stages.hardware as h; h.hardware_class(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
