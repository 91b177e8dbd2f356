// Preloaded, this makes MKL take its AVX-512 kernels on processors that are not Intel's, where it would otherwise
// keep to AVX2 and run f32 at about half speed. On Intel's processors it changes nothing.
//
//     cc -shared -fPIC -o mkl_avx512.so mkl_avx512.c && LD_PRELOAD=./mkl_avx512.so python peer.py ...
int mkl_serv_intel_cpu_true(void) { return 1; }
int mkl_serv_intel_cpu(void) { return 1; }
