# SPDX-License-Identifier: MIT
# A text as a string of C, without the line that says its licence.
/^# SPDX-/d
s/["\\]/\\&/g
s/^/"/
s/$/\\n"/
