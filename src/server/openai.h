/* SPDX-License-Identifier: Apache-2.0 */
/* openai.h - members of OpenAI's image requests, which the interface's description lists too. */
#ifndef CN_SERVER_OPENAI_H
#define CN_SERVER_OPENAI_H

#include "server/members.h"

extern const member openai_members[];

#endif
