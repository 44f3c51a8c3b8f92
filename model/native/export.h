/* What of a function is seen outside of the library. */
#ifndef GLOSSATOR_EXPORT_H
#define GLOSSATOR_EXPORT_H

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#endif
