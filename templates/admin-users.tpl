<%
# Who can log in. Besides root, asset and query (see layout.tpl):
#   known    each with .name, .locked and .may (pairs: an action, and what it is limited to, or nothing)
#   here, is_root (see admin-nav.tpl)      wrong    always empty
rebase("layout", title="Users")
from urllib.parse import quote
%>
<h1>Users</h1>
% include("admin-nav")
<p><a href="{{root}}-/admin/password">Add a user</a></p>
<ul class="list rows">
% for one in known:
  <li>
    <b><bdi>{{one.name}}</bdi></b>
%   if one.locked:
    <b class="mark">cannot log in: the line in the password file is broken</b>
%   end
    <span class="quiet">{{"may " if one.may else "may nothing here"}}{{", ".join(action + (" (" + limits + ")" if limits else "") for action, limits in one.may)}}</span>
    <span class="links">
      <a href="{{root}}-/admin/password?user={{quote(one.name, safe="")}}">Set the password<span class="hidden"> of {{one.name}}</span></a>
      <a href="{{root}}-/admin/delete?user={{quote(one.name, safe="")}}">Delete<span class="hidden"> {{one.name}}</span></a>
    </span>
  </li>
% end
</ul>
